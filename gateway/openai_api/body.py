"""What a client may send to /v1/chat/completions, field by field.

Fields that would change the reply and that nothing here can honour are refused unless they ask for nothing; unknown
ones are refused too, for a misspelt option must not silently mean the default.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from internvl.errors import InvalidRequest

MAX_CHOICES = 16
_INT32 = 2**31 - 1

Count = Annotated[int, Field(ge=0, le=_INT32)]
Increment = float | Literal["auto"]
"""Position increment of a visual token (V2PE)."""
Layout = Literal["lines", "as_given"]
"""Line breaks and labels around an image or video."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _asks_nothing(*allowed: object) -> AfterValidator:
    def check(value: object) -> object:
        if value not in allowed:
            raise ValueError("not supported here")
        return value

    return AfterValidator(check)


Unsupported = Annotated[Any, _asks_nothing(None, [], {})]
Ignored = Any


class ImageUrl(_Part):
    """Where a picture is, and how it is shown."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None
    """low: one tile."""
    max_tile_count: Count | None = None
    position_increment: Increment | None = None
    layout: Layout | None = None


class VideoUrl(_Part):
    """Where a clip is, and how it is shown."""

    url: str
    frame_count: Count | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    max_tile_count: Count | None = None
    position_increment: Increment | None = None
    layout: Layout | None = None


class TextPart(_Part):
    """A piece of text."""

    type: Literal["text"]
    text: str


class ImagePart(_Part):
    """A picture."""

    type: Literal["image_url"]
    image_url: ImageUrl


class VideoPart(_Part):
    """A clip; OpenAI's API has none, other servers write it so."""

    type: Literal["video_url"]
    video_url: VideoUrl


Part = Annotated[TextPart | ImagePart | VideoPart, Field(discriminator="type")]


class Message(_Part):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part] | None = None
    name: Ignored = None
    refusal: Ignored = None
    audio: Unsupported = None
    tool_calls: Unsupported = None
    function_call: Unsupported = None
    annotations: Ignored = None


class StreamOptions(_Part):
    """What a stream tells."""

    include_usage: bool | None = None
    include_obfuscation: Ignored = None


class ChatBody(_Part):
    """The request."""

    model: str
    messages: list[Message]

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None

    max_completion_tokens: Count | None = None
    max_tokens: Count | None = None
    """The older name of the same."""
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    stop: str | list[str] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    logprobs: bool | None = None
    top_logprobs: Count | None = None

    # Not OpenAI's.
    top_k: Count | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    max_tile_count: Count | None = None
    position_increment: Increment | None = None
    layout: Layout | None = None

    audio: Unsupported = None
    functions: Unsupported = None
    function_call: Annotated[Any, _asks_nothing(None, "none")] = None
    logit_bias: Unsupported = None
    modalities: Annotated[Any, _asks_nothing(None, ["text"])] = None
    prediction: Unsupported = None
    reasoning_effort: Annotated[Any, _asks_nothing(None, "none")] = None
    response_format: Annotated[Any, _asks_nothing(None, {"type": "text"})] = None
    tools: Unsupported = None
    tool_choice: Annotated[Any, _asks_nothing(None, "none", "auto")] = None
    web_search_options: Unsupported = None

    metadata: Ignored = None
    parallel_tool_calls: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_retention: Ignored = None
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
    """Of all complaints the one deepest in the request: of a field that may be of two kinds, about the kind meant."""
    details = max(error.errors(include_url=False, include_input=False), key=lambda found: len(found["loc"]))
    match details["type"]:
        case "json_invalid":
            return InvalidRequest("the body is not JSON")
        case "extra_forbidden":
            message = "there is no such field here"
        case "missing":
            message = "the field is missing"
        case "value_error":
            message = "not supported here"
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


_PART_TYPES = frozenset(("text", "image_url", "video_url"))
_KINDS = frozenset(("str", "float"))
