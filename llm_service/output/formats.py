"""Forms of a reply as grammars, in the notation of `llm_service.engine.grammar`. Pure.

Invalid JSON and an empty choice are refused here; one that cannot be compiled, where it is compiled.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from llguidance import LLMatcher

from internvl.errors import GrammarInvalid
from llm_service.engine.grammar import MAX_GRAMMAR_CHARS, Grammars
from llm_service.output.places import fault_place

Json = dict[str, Any]
WHITE_SPACE: Json = {"whitespace_pattern": r"[ \n\r\t]{1,32}"}
"""Between the parts of JSON, as models write it; bounded, for a model that is lost fills a reply with line breaks."""
_MAX_CHOICES = 1000


@dataclass(frozen=True)
class Form:
    """Form of a reply."""

    grammar: str
    field: str
    """Field of the request that is named when the grammar cannot be compiled."""
    schemas: tuple[tuple[str, Json], ...] = ()
    """The JSON Schemas it was made from, each with its field: where the place of a fault is looked for."""

    def fault(self, grammars: Grammars) -> tuple[str, str]:
        """The field at fault where the grammar cannot be compiled, and the place in its schema, "" if unknown."""
        for field, schema in self.schemas:
            if not _compiles(grammars, field, schema):
                return field, fault_place(schema, partial(_compiles, grammars, field))
        return self.field, ""


def json_object(field: str) -> Form:
    """Any JSON object."""
    return Form(schema_grammar({"type": "object"}, field), field)


def json_schema(text: str, field: str) -> Form:
    """JSON that a schema allows. Raises GrammarInvalid for what is no JSON object."""
    schema = parsed_schema(text, field)
    return Form(schema_grammar(schema, field), field, ((field, schema),))


def regex(text: str, field: str) -> Form:
    """Text that a regular expression matches from its beginning to its end."""
    return Form(LLMatcher.grammar_from_regex(_bounded(text, field)), field)


def choice(choices: Sequence[str], field: str) -> Form:
    """One of the texts. Raises GrammarInvalid."""
    if not 1 <= len(choices) <= _MAX_CHOICES or not all(choices):
        raise GrammarInvalid(f"a choice is among 1 to {_MAX_CHOICES} texts, none empty", field=field)
    return Form(LLMatcher.grammar_from_lark(f"start: {' | '.join(map(literal, choices))}"), field)


def lark(text: str, field: str) -> Form:
    """Texts that a Lark grammar allows."""
    return Form(LLMatcher.grammar_from_lark(_bounded(text, field)), field)


def schema_grammar(schema: Json, field: str) -> str:
    """The grammar of a JSON Schema. Raises GrammarInvalid for what JSON cannot say, half a character for instance."""
    try:
        return LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=WHITE_SPACE)  # type: ignore[arg-type]
    except (RecursionError, ValueError):
        raise GrammarInvalid("the schema is nested too deep, or holds half a character", field=field) from None


def literal(text: str) -> str:
    """A text as Lark writes it."""
    return json.dumps(text, ensure_ascii=False)


def parsed_schema(text: str, field: str) -> Json:
    """The schema. Raises GrammarInvalid."""
    try:
        schema = json.loads(_bounded(text, field), parse_constant=_no_number)
    except RecursionError:
        raise GrammarInvalid("the schema is nested too deep", field=field) from None
    except ValueError as error:
        raise GrammarInvalid(f"the schema is not JSON: {error}", field=field) from None
    if not isinstance(schema, dict):
        raise GrammarInvalid("a schema is a JSON object", field=field)
    return schema


def _compiles(grammars: Grammars, field: str, schema: Json) -> bool:
    try:
        return grammars.compiles(schema_grammar(schema, field))
    except GrammarInvalid:
        return False


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _bounded(text: str, field: str) -> str:
    if not 1 <= len(text) <= MAX_GRAMMAR_CHARS:
        raise GrammarInvalid(f"{len(text)} characters; 1 to {MAX_GRAMMAR_CHARS} are compiled", field=field)
    return text
