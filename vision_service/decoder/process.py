"""The service's handle of one decoder process: gives it a file, gets tiles. Trusts nothing that comes back.

Shapes: N tiles of a file, S the tile's side in pixels.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from typing import Any, Self, TypeVar

import numpy as np

from internvl.errors import InvalidRequest, error_class
from vision_service.decoder.job import Job
from vision_service.tiles import most_tiles

log = logging.getLogger(__name__)
Result = TypeVar("Result")
_READY = b"ready\n"
_START_SECONDS = 120.0
_MAX_LINE_BYTES = 1 << 16
_LAST_WORDS_BYTES = 2000
_MAX_SOURCE_COUNT = 1 << 31
_KEPT_VARIABLES = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(64 << 20), "MALLOC_TRIM_THRESHOLD_": str(128 << 20)}
"""For glibc: memory of the usual image is not taken from the system, page by page, for every one."""
_KEPT_EXCHANGE_BYTES = 32 << 20
"""A larger exchange is emptied after a job; a smaller one is not: a new one costs more than filling it."""
_IN_THREAD_BYTES = 1 << 18
"""From so many bytes on, copies are made off the event loop."""


class DecoderDied(Exception):
    """The process ended in the middle of a job, or answered nonsense."""

    def __init__(self, what: str, *, was_stopped: bool = False) -> None:
        super().__init__(f"a decoder process {what}")
        self.was_stopped = was_stopped
        """From outside, as the kernel does when the machine has no memory left."""


@dataclass(frozen=True)
class ProcessLimits:
    """Limits of one decoder."""

    seconds: float
    """For one file."""
    memory_bytes: int
    """Beyond what it has when it starts."""


@dataclass(frozen=True)
class Decoded:
    """A file's tiles."""

    tiles: np.ndarray
    """uint8 (N, S, S, 3), part after part."""
    counts: tuple[int, ...]
    """Tiles of each part: an image has one part, a video one for every sampled frame."""
    source_count: int
    """Pages of the image file, or frames of the video."""
    size: tuple[int, int] = (0, 0)
    """Width and height of an image as it was shown to the model, in pixels; (0, 0) for a video."""


class DecoderProcess:
    """One process, one job at a time. After anything but an InvalidRequest it must be killed."""

    def __init__(self, process: asyncio.subprocess.Process, exchange: FileIO) -> None:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        self._process, self._requests, self._replies = process, process.stdin, process.stdout
        self._exchange = exchange
        self._last_words = b""
        self._listening = asyncio.create_task(self._listen(process.stderr))
        self._copying: asyncio.Future[Any] | None = None
        self.is_leaving = False
        """Whether it ends of itself after the job that it has just answered."""

    @classmethod
    async def start(cls, limits: ProcessLimits) -> Self:
        """Raises RuntimeError when it does not come up."""
        exchange = _memory_file()
        try:
            process = await _spawn(exchange.fileno(), limits)
        except BaseException:
            exchange.close()
            raise
        self = cls(process, exchange)
        try:
            async with asyncio.timeout(_START_SECONDS):
                ready = await self._replies.readline()
        except BaseException:
            await self.kill()
            raise
        if ready != _READY:
            await self.kill()
            raise RuntimeError("a decoder process did not start")
        return self

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    async def run(self, job: Job, data: bytes) -> Decoded:
        """Raises InvalidRequest for what the file is, DecoderDied for what it did."""
        await self._copied(len(data), lambda: self._send(data))
        reply = await self._answer(job.to_line(len(data)))
        self.is_leaving = bool(reply.get("leaving"))
        if self.is_leaving:
            log.warning("a decoder leaves", extra={"reply": reply, "last_words": self._last_words_text})
        if "reason" in reply:
            raise _refusal(reply)
        counts, source_count, size = _counts(reply, job), _source_count(reply), _size(reply)
        tile_size = job.tiling.tile_size
        tiles = np.empty((sum(counts), tile_size, tile_size, 3), np.uint8)
        await self._copied(tiles.nbytes, lambda: self._receive(tiles))
        return Decoded(tiles, counts, source_count, size)

    async def kill(self) -> None:
        """Ends it; harmless when it has ended."""
        if self.is_alive:
            self._process.kill()
        await self._process.wait()
        self._listening.cancel()
        if self._copying is not None:  # a thread may still use the exchange
            await asyncio.wait([self._copying])
        self._exchange.close()

    async def _copied(self, size: int, copy: Callable[[], Result]) -> Result:
        if size < _IN_THREAD_BYTES:
            return copy()
        self._copying = asyncio.ensure_future(asyncio.to_thread(copy))
        return await asyncio.shield(self._copying)

    def _send(self, data: bytes) -> None:
        self._exchange.seek(0)
        rest = memoryview(data)
        while rest:
            rest = rest[self._exchange.write(rest) :]

    def _receive(self, tiles: np.ndarray) -> None:
        """Raises DecoderDied unless there are as many bytes as there should be.

        Read, not mapped: a process that cuts the file off meanwhile would take a reader of the mapping with it.
        """
        self._exchange.seek(0)
        rest = tiles.data.cast("B")
        while rest:
            count = self._exchange.readinto(rest)
            if not count:
                raise DecoderDied("left fewer tiles than it said")
            rest = rest[count:]
        if os.fstat(self._exchange.fileno()).st_size > _KEPT_EXCHANGE_BYTES:
            self._exchange.truncate(0)

    async def _answer(self, line: bytes) -> dict[str, Any]:
        """The reply to a job. Raises DecoderDied when it ends before."""
        try:
            self._requests.write(line)
            await self._requests.drain()
            reply = await self._replies.readline()
        except ConnectionError:
            reply = b""
        except ValueError as error:  # a line without an end
            raise DecoderDied("answered nonsense") from error
        if not reply:
            return_code = await self._process.wait()
            log.warning("a decoder died", extra={"return_code": return_code, "last_words": self._last_words_text})
            raise DecoderDied(f"ended with {return_code}", was_stopped=return_code == -signal.SIGKILL)
        try:
            parsed: dict[str, Any] = {**json.loads(reply)}
        except (TypeError, ValueError) as error:
            raise DecoderDied("answered nonsense") from error
        return parsed

    @property
    def _last_words_text(self) -> str:
        return self._last_words.decode("utf-8", "replace")

    async def _listen(self, stderr: asyncio.StreamReader) -> None:
        """Reads the output of its libraries, which must not block it, for the log line of its death."""
        while words := await stderr.read(_LAST_WORDS_BYTES):
            self._last_words = (self._last_words + words)[-_LAST_WORDS_BYTES:]
            log.debug("a decoder says", extra={"words": words.decode("utf-8", "replace")})


def _counts(reply: dict[str, Any], job: Job) -> tuple[int, ...]:
    """Tiles of each part. Raises DecoderDied for numbers that the job cannot have led to."""
    counts, most = reply.get("counts"), most_tiles(job.tiling)
    if (
        not isinstance(counts, list)
        or not 0 < len(counts) <= job.max_part_count
        or not all(type(count) is int and 0 < count <= most for count in counts)
    ):
        raise DecoderDied("answered nonsense")
    return tuple(counts)


def _source_count(reply: dict[str, Any]) -> int:
    """Raises DecoderDied for a number that no file can have led to."""
    count = reply.get("source_count")
    if type(count) is not int or not 0 < count < _MAX_SOURCE_COUNT:
        raise DecoderDied("answered nonsense")
    return count


def _refusal(reply: dict[str, Any]) -> InvalidRequest:
    """The error that the worker raised. Raises DecoderDied for one that it never raises."""
    error = error_class(str(reply["reason"]))
    if error is None or not issubclass(error, InvalidRequest):
        raise DecoderDied("answered nonsense")
    return error(str(reply.get("message")), field=reply.get("field"))


async def _spawn(exchange: int, limits: ProcessLimits) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "vision_service.decoder.worker",
        str(exchange), str(limits.memory_bytes), str(limits.seconds),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        pass_fds=[exchange], limit=_MAX_LINE_BYTES, env=_environment(),
        start_new_session=True,  # Ctrl-C is the service's to handle
    )  # fmt: skip


def _memory_file() -> FileIO:
    """Without a name, and where the system can, without a disk."""
    if hasattr(os, "memfd_create"):
        return FileIO(os.memfd_create("exchange"), "r+")
    with tempfile.TemporaryFile() as file:
        return FileIO(os.dup(file.fileno()), "r+")


def _environment() -> dict[str, str]:
    """Where modules are found, and nothing else: the service's own may hold passwords."""
    return {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ} | _ONE_THREAD | _KEEP_FREED_MEMORY


def _size(reply: dict[str, Any]) -> tuple[int, int]:
    """Raises DecoderDied for a size that cannot be."""
    match reply.get("size"):
        case [int(width), int(height)] if 0 <= width < 1 << 31 and 0 <= height < 1 << 31:
            return width, height
    raise DecoderDied("answered nonsense")
