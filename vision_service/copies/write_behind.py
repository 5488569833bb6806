"""Writes that an answer does not wait for, bounded by bytes.

write   a value that has just been made: waits for room for a while, then drops the write
offer   a value that a hit may refresh: written if there is room at once and no write of it is under way

Two writes run at a time, so that they leave capacity for the store's other callers.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from internvl.errors import StoreUnavailable
from vision_service.metrics import DROPPED_WRITES

log = logging.getLogger(__name__)
Write = Callable[[], Awaitable[object]]
_WRITES_AT_ONCE = 2
_MAX_QUEUED = 4096


class WriteBehind:
    """Runs writes in the background; one that fails is logged, once an outage, and never raised."""

    def __init__(self, max_bytes: int, *, wait_seconds: float = 2.0) -> None:
        self._max_bytes = max_bytes
        self._wait_seconds = wait_seconds
        self._slots = asyncio.Semaphore(_WRITES_AT_ONCE)
        self._pending: dict[str, asyncio.Task[bool]] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.pending_bytes = 0
        """Bytes on their way to the store."""
        self.is_failing = False
        """Whether the last write failed or was dropped."""

    async def write(self, name: str, size: int, write: Write) -> "asyncio.Future[bool]":
        """Starts a write once there is room for `size` bytes; the future tells whether it succeeded.

        One that is under way for the same name is as good: names are made from content.
        """
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._room(size)
        except TimeoutError:
            return self._dropped()
        return self._pending.get(name) or self._start(name, size, write)

    def offer(self, name: str, size: int, write: Write) -> None:
        """Starts a write if it can be had at once; never waits."""
        if name not in self._pending and self._has_room(size) and not self._waiting:
            self._start(name, size, write)

    async def close(self) -> None:
        """Waits for what is on its way."""
        while self._pending:
            await asyncio.wait(self._pending.values())

    def _start(self, name: str, size: int, write: Write) -> "asyncio.Future[bool]":
        self.pending_bytes += size
        self._pending[name] = task = asyncio.create_task(self._run(name, size, write))
        return task

    async def _run(self, name: str, size: int, write: Write) -> bool:
        try:
            async with self._slots:
                await write()
            self.is_failing = False
            return True
        except StoreUnavailable as error:
            self._failed(error.message)
        except Exception as error:
            log.error("a write to the embedding store failed", exc_info=error)
        finally:
            self.pending_bytes -= size
            del self._pending[name]
            self._admit()
        return False

    def _has_room(self, size: int) -> bool:
        """Alone, even what is larger than the bound may go."""
        fits = self.pending_bytes + size <= self._max_bytes and len(self._pending) < _MAX_QUEUED
        return fits or not self._pending

    async def _room(self, size: int) -> None:
        while not self._has_room(size):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._waiting:
                    self._waiting.remove(waiter)

    def _admit(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _dropped(self) -> "asyncio.Future[bool]":
        DROPPED_WRITES.inc()
        self._failed("too many wait")
        dropped: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        dropped.set_result(False)
        return dropped

    def _failed(self, cause: str) -> None:
        if not self.is_failing:
            log.warning("the embedding store takes no writes", extra={"cause": cause})
        self.is_failing = True
