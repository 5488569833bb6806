"""A conversation as this service receives it: text, and references to embeddings, in reading order."""

from dataclasses import dataclass
from enum import Enum

from llm_service.output.tools import ToolCall
from llm_service.positions import INCREMENTS


class Role(Enum):
    """Speaker of a message; the value is the template's word."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Auto(Enum):
    """In place of an increment: the largest one with which the prompt and its reply fit the window."""

    AUTO = "auto"


Increment = int | Auto
"""Ticks per visual token, or AUTO."""


@dataclass(frozen=True)
class Visual:
    """An image, or a video of one frame or more, whose rows lie one after the other under one key."""

    key: str
    tokens_per_tile: int
    frame_tile_counts: tuple[int, ...]
    """Tiles of each frame; an image is one frame."""
    is_clip: bool
    increment: Increment
    holder: str = ""
    """Address of a vision replica that has a copy; empty if unknown."""
    is_as_given: bool = False
    """Whether the prompt gets no label and no line break around it."""

    def __post_init__(self) -> None:
        assert self.increment is Auto.AUTO or self.increment in INCREMENTS

    @property
    def tile_count(self) -> int:
        return sum(self.frame_tile_counts)

    @property
    def token_count(self) -> int:
        return self.tile_count * self.tokens_per_tile


@dataclass(frozen=True)
class Combined:
    """Several images that are one image, of one increment and layout."""

    visuals: tuple[Visual, ...]

    def __post_init__(self) -> None:
        assert len({(each.increment, each.is_as_given, each.is_clip) for each in self.visuals}) == 1

    @property
    def is_clip(self) -> bool:
        return False

    @property
    def is_as_given(self) -> bool:
        return self.visuals[0].is_as_given


@dataclass(frozen=True)
class Message:
    """One turn."""

    role: Role
    parts: tuple[str | Visual | Combined, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    """Calls of the assistant after its text."""

    @property
    def visuals(self) -> list[Visual]:
        """Those of combined images each."""
        found: list[Visual] = []
        for part in self.parts:
            found += part.visuals if isinstance(part, Combined) else [part] if isinstance(part, Visual) else []
        return found

    @property
    def text(self) -> str:
        return "".join(part for part in self.parts if isinstance(part, str))
