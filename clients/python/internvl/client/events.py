"""Events of a reply: one Started, any number of Delta, one Finished."""

from dataclasses import dataclass
from typing import Literal, Self

from internvl.chat.v1 import chat_pb2
from internvl.client.tools import ToolCallDelta
from internvl.common.v1 import sampling_pb2

FinishReason = Literal["stop", "length", "tool_calls"]

_REASONS: dict[int, FinishReason] = {
    sampling_pb2.FINISH_REASON_LENGTH: "length",
    sampling_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
}


@dataclass(frozen=True)
class Media:
    """A image or video as the server knows it."""

    id: str
    tile_count: int
    token_count: int
    embedding_cached: bool
    source_count: int = 1
    """Pages of the image file, or frames of the video, in all."""
    read_count: int = 1
    """How many of them the model is shown."""

    @classmethod
    def from_pb(cls, media: chat_pb2.Media) -> Self:
        return cls(
            media.id, media.tile_count, media.token_count, media.embedding_cached, media.source_count, media.read_count
        )


@dataclass(frozen=True)
class Started:
    """All media are encoded, generation begins."""

    response_id: str
    model: str
    media: tuple[Media, ...]
    warnings: tuple[str, ...] = ()
    """Parts of the request that were probably meant otherwise."""

    @classmethod
    def from_pb(cls, event: chat_pb2.Started) -> Self:
        return cls(event.response_id, event.model, tuple(map(Media.from_pb, event.media)), tuple(event.warnings))


@dataclass(frozen=True)
class TokenLogprob:
    """Log-probability of one token, with the likeliest tokens in its place."""

    token_id: int
    token: bytes
    logprob: float
    alternatives: tuple["TokenLogprob", ...]

    @classmethod
    def from_pb(cls, entry: sampling_pb2.TokenLogprob) -> "TokenLogprob":
        return cls(entry.token_id, entry.token, entry.logprob, tuple(map(cls.from_pb, entry.alternatives)))


Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Region:
    """A region of an image that the reply names."""

    phrase: str
    image_index: int | None
    """Over the images of the request; None where the reply does not say which one it means."""
    thousandths: Box
    """As the model wrote it."""
    pixels: Box | None
    """In the image as a person sees it; None where its size is not known."""
    point: tuple[float, float] | None
    """The middle, in pixels."""

    @classmethod
    def from_pb(cls, region: chat_pb2.Region) -> Self:
        has_pixels = region.HasField("pixels")
        return cls(
            region.phrase,
            region.image_index if region.HasField("image_index") else None,
            _box(region.thousandths),
            _box(region.pixels) if has_pixels else None,
            (region.point.x, region.point.y) if has_pixels else None,
        )


def _box(box: chat_pb2.Box) -> Box:
    return box.x1, box.y1, box.x2, box.y2


@dataclass(frozen=True)
class Delta:
    """More of the reply."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[ToolCallDelta, ...] = ()
    regions: tuple[Region, ...] = ()
    """Regions that the text has named in whole."""

    @classmethod
    def from_pb(cls, event: chat_pb2.Delta) -> Self:
        return cls(
            event.text,
            tuple(map(TokenLogprob.from_pb, event.logprobs)),
            tuple(map(ToolCallDelta.from_pb, event.tool_calls)),
            tuple(map(Region.from_pb, event.regions)),
        )


@dataclass(frozen=True)
class Usage:
    """Token counts of one request."""

    prompt_token_count: int
    cached_token_count: int
    visual_token_count: int
    completion_token_count: int
    position_increments: tuple[float, ...]


@dataclass(frozen=True)
class Timing:
    """Seconds since the request reached the gateway."""

    encode_seconds: float
    first_token_seconds: float
    total_seconds: float
    queue_seconds: float = 0.0
    """How much of it the prompt waited for its first step in the LLM service."""


@dataclass(frozen=True)
class Finished:
    """The reply is complete."""

    reason: FinishReason
    usage: Usage
    timing: Timing

    @classmethod
    def from_pb(cls, event: chat_pb2.Finished) -> Self:
        usage, timing = event.usage, event.timing
        return cls(
            _REASONS.get(event.reason, "stop"),
            Usage(
                prompt_token_count=usage.prompt_token_count,
                cached_token_count=usage.cached_token_count,
                visual_token_count=usage.visual_token_count,
                completion_token_count=usage.completion_token_count,
                position_increments=tuple(usage.position_increments),
            ),
            Timing(timing.encode_seconds, timing.first_token_seconds, timing.total_seconds, timing.queue_seconds),
        )


Event = Started | Delta | Finished


def event_of(response: chat_pb2.ChatResponse) -> Event | None:
    """The event, or None for one that this version does not know."""
    match response.WhichOneof("event"):
        case "started":
            return Started.from_pb(response.started)
        case "delta":
            return Delta.from_pb(response.delta)
        case "finished":
            return Finished.from_pb(response.finished)
        case _:
            return None
