"""A conversation as this service receives it: text, and references to embeddings, in reading order."""

from dataclasses import dataclass
from enum import Enum

from llm_service.positions import INCREMENTS


class Role(Enum):
    """Speaker of a message; the value is the template's word."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


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

    def __post_init__(self) -> None:
        assert self.increment is Auto.AUTO or self.increment in INCREMENTS

    @property
    def tile_count(self) -> int:
        return sum(self.frame_tile_counts)

    @property
    def token_count(self) -> int:
        return self.tile_count * self.tokens_per_tile


@dataclass(frozen=True)
class Message:
    """One turn."""

    role: Role
    parts: tuple[str | Visual, ...]
