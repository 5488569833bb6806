"""The form of the reply: `response_format`, and the same in vLLM's words. Pure."""

import json

from gateway.openai_api.body import ChatBody, StructuredOutputs
from internvl.common.v1 import output_pb2
from internvl.errors import InvalidRequest

_GUIDED = {"guided_json": "json", "guided_regex": "regex", "guided_choice": "choice", "guided_grammar": "grammar"}
_FIELDS = ("response_format", "structured_outputs", *_GUIDED)


def output_format(body: ChatBody) -> output_pb2.OutputFormat | None:
    """None: free text. Raises InvalidRequest for more than one form."""
    found = [(name, form) for name in _FIELDS if (form := _form(body, name)) is not None]
    if len(found) > 1:
        raise InvalidRequest(f"the reply has one form: {found[0][0]} says it already", field=found[1][0])
    return found[0][1] if found else None


def output_field(body: ChatBody) -> str:
    """The field that said what form the reply has."""
    name = next((name for name in _FIELDS if _form(body, name) is not None), "response_format")
    return "response_format.json_schema.schema" if name == "response_format" else name


def _form(body: ChatBody, name: str) -> output_pb2.OutputFormat | None:
    value = getattr(body, name)
    if value is None:
        return None
    if name == "response_format":
        return _response_format(body)
    if name in _GUIDED:
        value = StructuredOutputs.model_validate({_GUIDED[name]: value})
    return _structured(value, name)


def _response_format(body: ChatBody) -> output_pb2.OutputFormat | None:
    wanted = body.response_format
    assert wanted is not None
    if wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return output_pb2.OutputFormat(json_object=output_pb2.JsonObject())
    if wanted.json_schema is None or wanted.json_schema.schema_ is None:
        raise InvalidRequest("json_schema needs a schema", field="response_format.json_schema.schema")
    return output_pb2.OutputFormat(json_schema=json.dumps(wanted.json_schema.schema_))


def _structured(wanted: StructuredOutputs, field: str) -> output_pb2.OutputFormat:
    forms = []
    if wanted.json_ is not None:
        text = wanted.json_ if isinstance(wanted.json_, str) else json.dumps(wanted.json_)
        forms.append(output_pb2.OutputFormat(json_schema=text))
    if wanted.json_object:
        forms.append(output_pb2.OutputFormat(json_object=output_pb2.JsonObject()))
    if wanted.regex is not None:
        forms.append(output_pb2.OutputFormat(regex=wanted.regex))
    if wanted.choice is not None:
        forms.append(output_pb2.OutputFormat(choice=output_pb2.Choices(choices=wanted.choice)))
    if wanted.grammar is not None:
        forms.append(output_pb2.OutputFormat(lark=wanted.grammar))
    if len(forms) != 1:
        raise InvalidRequest("one of json, json_object, regex, choice and grammar is wanted", field=field)
    return forms[0]
