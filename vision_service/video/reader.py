"""A file's frames by their place among those that a player shows."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from PIL import Image


class FrameReader(ABC):
    """One open file."""

    @property
    @abstractmethod
    def frame_count(self) -> int:
        """Frames that a player shows, at least 1."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Width and height that the header tells."""

    @abstractmethod
    def frames_per_second(self) -> float:
        """Mean rate. Raises VideoUnreadable where the file does not tell."""

    @abstractmethod
    def frames(self, indices: Sequence[int]) -> Iterator[Image.Image]:
        """RGB frames at ascending distinct indices below `frame_count`, each decoded once.

        Raises VideoUnreadable, MemoryError.
        """
