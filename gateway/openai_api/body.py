"""Fields that a client may send to /v1/chat/completions.

Fields that would change the reply and that nothing here can honour are refused unless they ask for nothing; unknown
ones are refused unless they are null, for a misspelt option must not silently mean the default.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails

from gateway.openai_api.request.message import (
    Count,
    Fields,
    Ignored,
    Increment,
    Integer,
    Layout,
    Message,
    Off,
    On,
    Schema,
    Unsupported,
    asks_nothing,
)
from internvl.errors import InvalidRequest

MAX_CHOICES = 16


def _all(value: object) -> object:
    """-1 is how others write that all tokens stay."""
    return 0 if value == -1 and not isinstance(value, bool) else value


class Function(Fields):
    """A function that may be called."""

    name: str
    description: str | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class Tool(Fields):
    """A tool; there are no others than functions."""

    type: Literal["function"]
    function: Function


class FunctionName(Fields):
    """The name of a function."""

    name: str


class NamedTool(Fields):
    """The tool that is to be called."""

    type: Literal["function"]
    function: FunctionName


class NamedSchema(Fields):
    """A schema of the reply. It is held to whether `strict` or not."""

    name: Ignored = None
    description: Ignored = None
    schema_: Schema | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Fields):
    """The form of the reply."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None


class StructuredOutputs(Fields):
    """The same in vLLM's words; exactly one of them."""

    json_: Schema | str | None = Field(None, alias="json")
    json_object: bool | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    """In Lark."""


class StreamOptions(Fields):
    """Options of a stream."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    """Accepted; usage comes at the end."""
    include_obfuscation: Ignored = None


class ChatBody(Fields):
    """The request. Fields with the name of one of SamplingOptions mean the same."""

    model: str
    messages: list[Message]

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[Integer, Field(ge=1, le=MAX_CHOICES)] | None = None

    max_completion_tokens: Count | None = None
    max_tokens: Count | None = None
    """The older name of the same."""
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    stop: str | list[str] | None = None
    seed: Annotated[Integer, Field(ge=-(2**63), lt=2**64)] | None = None
    logprobs: bool | None = None
    top_logprobs: Count | None = None
    logit_bias: dict[str, float] | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None

    # Not OpenAI's.
    top_k: Annotated[Count, BeforeValidator(_all)] | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    max_tile_count: Count | None = None
    position_increment: Increment | None = None
    layout: Layout | None = None
    min_tokens: Count | None = None
    ignore_eos: bool | None = None
    stop_token_ids: list[Count] | None = None
    include_stop_str_in_output: bool | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: Schema | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None

    audio: Unsupported = None
    functions: Unsupported = None
    function_call: Annotated[Any, asks_nothing(None, "none")] = None
    modalities: Annotated[Any, asks_nothing(None, ["text"])] = None
    prediction: Unsupported = None
    reasoning_effort: Annotated[Any, asks_nothing(None, "none")] = None
    web_search_options: Unsupported = None

    # Of other servers, where they ask for what is done anyway.
    add_generation_prompt: On = None
    add_special_tokens: Off = None
    allowed_token_ids: Unsupported = None
    bad_words: Unsupported = None
    best_of: Annotated[Any, asks_nothing(None, 1)] = None
    chat_template_kwargs: Unsupported = None
    continue_final_message: Off = None
    echo: Off = None
    length_penalty: Annotated[Any, asks_nothing(None, 1, 1.0)] = None
    mm_processor_kwargs: Unsupported = None
    return_tokens_as_token_ids: Off = None
    skip_special_tokens: On = None
    spaces_between_special_tokens: On = None
    use_beam_search: Off = None

    metadata: Ignored = None
    priority: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_retention: Ignored = None
    request_id: Ignored = None
    safety_identifier: Ignored = None
    service_tier: Ignored = None
    store: Ignored = None
    user: Ignored = None
    verbosity: Ignored = None


def read_body(data: bytes) -> ChatBody:
    """Raises InvalidRequest that names the field at fault in the client's own words."""
    try:
        return ChatBody.model_validate_json(data)
    except ValidationError as error:
        raise _refusal(error) from None


def _refusal(error: ValidationError) -> InvalidRequest:
    """The complaint deepest in the request: of a field that may be of two kinds, about the kind meant."""
    details = max(error.errors(include_url=False, include_input=False), key=lambda found: len(found["loc"]))
    match details["type"]:
        case "json_invalid":
            reason = details["msg"].removeprefix("Invalid JSON: ")[:160]
            return InvalidRequest(f"the body is not JSON: {reason}")
        case "extra_forbidden":
            message = "there is no such field here"
        case "missing":
            message = "the field is missing"
        case "value_error":
            message = "not supported here"
        case "union_tag_invalid":
            message = f"there is no such type here; there are {details['ctx']['expected_tags']}"
        case _:
            message = details["msg"][:200]
    return InvalidRequest(message, field=_path(details))


def _path(details: ErrorDetails) -> str | None:
    """messages[0].content[1].image_url.url, without the names of the kinds that were tried on the way."""
    path = ""
    before: int | str = ""
    for place in details["loc"]:
        is_tag = isinstance(before, int) and place in _PART_TYPES
        if isinstance(place, int):
            path += f"[{place}]"
        elif not is_tag and place not in _KINDS and "[" not in place:
            path += f".{place}" if place.isidentifier() else f"[{json.dumps(place)}]"
        before = place
    return path.removeprefix(".")[:200] or None


_PART_TYPES = frozenset(("text", "refusal", "image_url", "video_url"))
_KINDS = frozenset(("str", "float", "NamedTool"))
