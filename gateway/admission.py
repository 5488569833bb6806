"""How many requests are answered at a time. Refuses at once: a caller who knows can go elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import QueueFull


class Admission:
    """Counts requests from their arrival to their end, whatever the end is."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running = 0

    @property
    def running(self) -> int:
        return self._running

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Raises QueueFull when the limit is reached."""
        if self._running >= self._limit:
            raise QueueFull(f"{self._limit} requests are being answered already")
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
