"""Notices work on a device that never returns: a GPU or a sum over ranks that hangs raises nothing.

The thread that waits for it cannot be ended, so those who asked for the work are failed, and the process ends
(`Server.give_up`). The limit is counted in pauses of the event loop, not by the clock: a process that was stopped for a
while, or starved on a busy machine, is not taken for one that hangs.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

_FIRST = 5
"""How many limits the first piece of work may take: kernels are loaded, compiled and tuned in it."""


class Watchdog:
    """Watches one thread's work, a piece at a time."""

    def __init__(self, limit_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._began: float | None = None
        """When the piece under way began, which also tells one piece from the next."""
        self._done_count = 0

    @property
    def age_seconds(self) -> float:
        """Age of the piece under way; 0 between pieces."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    @contextmanager
    def work(self) -> Iterator[None]:
        """Around each piece. From any thread."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    def begin(self) -> None:
        """A piece is under way; one that was is over."""
        self._began = time.monotonic()

    def end(self) -> None:
        """Nothing is under way."""
        self._began = None
        self._done_count += 1

    async def overdue(self) -> str:
        """Returns the cause, in words, once a piece has taken longer than the limit."""
        pause = min(self._limit_seconds / 20, 1.0)
        piece, waited = None, 0.0
        while True:
            await asyncio.sleep(pause)
            waited = waited + pause if self._began == piece else 0.0
            piece = self._began
            limit = self._limit_seconds * (1 if self._done_count else _FIRST)
            if piece is not None and waited >= limit:
                return f"work on the device has not returned for {self.age_seconds:.0f} s"
