"""Requests of a client: messages, images, videos and options, and their translation to protobuf."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Literal

from internvl.chat.v1 import chat_pb2
from internvl.client.output import Output
from internvl.client.tools import ToolCall, Tools
from internvl.common.v1 import sampling_pb2, visual_pb2

Role = Literal["system", "user", "assistant", "tool"]
PositionIncrement = float | Literal["auto"]
Layout = Literal["lines", "as_given"]

_ROLES: dict[Role, visual_pb2.Role.ValueType] = {
    "system": visual_pb2.ROLE_SYSTEM,
    "user": visual_pb2.ROLE_USER,
    "assistant": visual_pb2.ROLE_ASSISTANT,
    "tool": visual_pb2.ROLE_TOOL,
}


_LAYOUTS: dict[Layout | None, visual_pb2.Layout.ValueType] = {
    None: visual_pb2.LAYOUT_UNSPECIFIED,
    "lines": visual_pb2.LAYOUT_LINES,
    "as_given": visual_pb2.LAYOUT_AS_GIVEN,
}


@dataclass(frozen=True)
class Visual:
    """How images become visual tokens and positions, and stand in the prompt; None = the server's default."""

    max_tile_count: int | None = None
    position_increment: PositionIncrement | None = None
    """One of 1, 1/2, ... 1/256, or "auto": the largest with which everything fits the trained window."""
    layout: Layout | None = None
    """lines: line breaks and labels around images, as the models were trained; as_given: none, the text has them."""

    def to_pb(self) -> visual_pb2.VisualOptions:
        options = visual_pb2.VisualOptions(max_tile_count=self.max_tile_count, layout=_LAYOUTS[self.layout])
        if self.position_increment == "auto":
            options.auto_increment.SetInParent()
        elif self.position_increment is not None:
            options.position_increment = self.position_increment
        return options


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen; None = the server's default. Ranges are documented in sampling.proto."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    top_logprob_count: int | None = None
    stop: tuple[str, ...] = ()
    output: Output | None = None
    """The form of the reply."""
    min_tokens: int | None = None
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    include_stop: bool = False

    def to_pb(self) -> sampling_pb2.SamplingOptions:
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        output = self.output.to_pb() if self.output is not None else None
        return sampling_pb2.SamplingOptions(**values | {"output": output})


@dataclass(frozen=True)
class Medium:
    """A file, as its bytes or as an id the server gave: exactly one of the two."""

    data: bytes | None = None
    id: str | None = None
    visual: Visual | None = None

    def __post_init__(self) -> None:
        if (self.data is None) == (self.id is None):
            raise ValueError("an image or video is given either by its bytes or by an id")

    @cached_property
    def digest(self) -> bytes | None:
        """SHA-256 of the bytes, if they are here."""
        return None if self.data is None else hashlib.sha256(self.data).digest()


@dataclass(frozen=True)
class Image(Medium):
    """An image: JPEG, PNG, WebP, GIF (first frame), BMP or TIFF."""

    def to_pb(self) -> chat_pb2.Part:
        return chat_pb2.Part(image=self.source_pb())

    def source_pb(self) -> chat_pb2.Image:
        visual = self.visual.to_pb() if self.visual else None
        if self.data is not None:
            return chat_pb2.Image(data=self.data, visual=visual)
        return chat_pb2.Image(id=self.id or "", visual=visual)


@dataclass(frozen=True)
class CombinedImage:
    """Several files that the model sees as one image. `visual` is for all; each may have its own tile count."""

    images: tuple[Image, ...]
    visual: Visual | None = None

    def to_pb(self) -> chat_pb2.Part:
        images = [image.source_pb() for image in self.images]
        visual = self.visual.to_pb() if self.visual else None
        return chat_pb2.Part(combined=chat_pb2.CombinedImage(images=images, visual=visual))


@dataclass(frozen=True)
class Video(Medium):
    """A video, of which some frames are shown to the model."""

    frame_count: int | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None

    def to_pb(self) -> chat_pb2.Part:
        visual = self.visual.to_pb() if self.visual else None
        frames = visual_pb2.VideoOptions(
            frame_count=self.frame_count, start_seconds=self.start_seconds, end_seconds=self.end_seconds
        )
        if self.data is not None:
            return chat_pb2.Part(video=chat_pb2.Video(data=self.data, visual=visual, frames=frames))
        return chat_pb2.Part(video=chat_pb2.Video(id=self.id or "", visual=visual, frames=frames))


Part = str | Image | CombinedImage | Video
Piece = Part | bytes | Path
"""As people write it: a string is text; bytes and paths are images."""


@dataclass(frozen=True)
class Message:
    """One turn: text, images and videos in reading order."""

    role: Role
    parts: tuple[Part, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    """Calls of the assistant."""
    tool_call_id: str = ""
    """Id of the call whose result this is, in a message of a tool."""

    @property
    def media(self) -> list[Image | Video]:
        found: list[Image | Video] = []
        for part in self.parts:
            if not isinstance(part, str):
                found += part.images if isinstance(part, CombinedImage) else (part,)
        return found

    def to_pb(self) -> chat_pb2.Message:
        parts = [chat_pb2.Part(text=part) if isinstance(part, str) else part.to_pb() for part in self.parts]
        calls = [call.to_pb() for call in self.tool_calls]
        return chat_pb2.Message(role=_ROLES[self.role], parts=parts, tool_calls=calls, tool_call_id=self.tool_call_id)


def user(*parts: Piece) -> Message:
    """A message of the user. A string is text; bytes and paths are images."""
    return Message("user", tuple(_part(part) for part in parts))


def tool_result(call_id: str, result: str) -> Message:
    """The result of a call, for the model to read."""
    return Message("tool", (result,), tool_call_id=call_id)


def chat_request(
    messages: Sequence[Message], sampling: Sampling, visual: Visual, tools: Tools | None = None
) -> chat_pb2.ChatRequest:
    """The request that asks for an answer to the last message."""
    return chat_pb2.ChatRequest(
        messages=[message.to_pb() for message in messages],
        sampling=sampling.to_pb(),
        visual=visual.to_pb(),
        tools=None if tools is None else tools.to_pb(),
    )


def _part(part: Piece) -> Part:
    match part:
        case bytes():
            return Image(part)
        case Path():
            return Image(part.read_bytes())
        case _:
            return part
