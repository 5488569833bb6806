"""Fields of a message, and their types."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_INT32 = 2**31 - 1


class Fields(BaseModel):
    """Fields by their own names alone; one that is unknown may be null."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _unknown_nulls_ask_for_nothing(cls, value: Any) -> Any:
        if isinstance(value, dict) and None in value.values():
            return {name: each for name, each in value.items() if each is not None or name in cls.model_fields}
        return value


def asks_nothing(*allowed: object) -> AfterValidator:
    """A field that is refused unless it has one of these values."""

    def check(value: object) -> object:
        if not any(value == each and type(value) is type(each) for each in allowed):
            raise ValueError("not supported here")
        return value

    return AfterValidator(check)


def _whole(value: object) -> object:
    """16.0 is an integer, as in JSON Schema."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _address(value: object) -> object:
    """An address alone, as some write it in place of an object that holds it."""
    return {"url": value} if isinstance(value, str) else value


Integer = Annotated[int, BeforeValidator(_whole)]
Count = Annotated[Integer, Field(ge=0, le=_INT32)]
Increment = float | Literal["auto"]
"""Position increment of a visual token (V2PE)."""
Layout = Literal["lines", "as_given"]
"""Line breaks and labels around an image or video."""
Unsupported = Annotated[Any, asks_nothing(None, [], {})]
Off = Annotated[Any, asks_nothing(None, False)]
On = Annotated[Any, asks_nothing(None, True)]
Ignored = Any
Schema = dict[str, Any]


class ImageUrl(Fields):
    """Where an image is, and how it is shown."""

    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None
    """low: one tile."""
    max_tile_count: Count | None = None
    position_increment: Increment | None = None
    layout: Layout | None = None


class VideoUrl(Fields):
    """Where a video is, and how it is shown."""

    url: str
    frame_count: Count | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    max_tile_count: Count | None = None
    position_increment: Increment | None = None
    layout: Layout | None = None


class _ContentPart(Fields):
    cache_control: Ignored = None
    uuid: Ignored = None


class TextPart(_ContentPart):
    """A piece of text."""

    type: Literal["text"]
    text: str


class RefusalPart(_ContentPart):
    """A refusal of the assistant, which is text like any other."""

    type: Literal["refusal"]
    refusal: str


class ImagePart(_ContentPart):
    """An image."""

    type: Literal["image_url"]
    image_url: Annotated[ImageUrl, BeforeValidator(_address)]


class VideoPart(_ContentPart):
    """A video; OpenAI's API has none, other servers write it so."""

    type: Literal["video_url"]
    video_url: Annotated[VideoUrl, BeforeValidator(_address)]


Part = Annotated[TextPart | RefusalPart | ImagePart | VideoPart, Field(discriminator="type")]


class CalledFunction(Fields):
    """The function that was called."""

    name: str
    arguments: str


class ToolCall(Fields):
    """A call that the assistant made."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: Ignored = None


class Message(Fields):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    name: Ignored = None
    refusal: Ignored = None
    reasoning_content: Ignored = None
    regions: Ignored = None
    audio: Unsupported = None
    function_call: Unsupported = None
    annotations: Ignored = None
