"""A fixed number of decoder processes; one that dies is replaced, and its request alone hears of it."""

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import Self

from internvl.errors import DecoderStopped, DecodeTimeout, InvalidRequest
from internvl.transport.tasks import stop
from vision_service.decoder.job import Job
from vision_service.decoder.process import Decoded, DecoderDied, DecoderProcess, ProcessLimits

log = logging.getLogger(__name__)
_RETRY_SECONDS = 1.0


class Decoders(ABC):
    """Whatever decodes files."""

    @abstractmethod
    async def decode(self, job: Job, data: bytes) -> Decoded:
        """Raises InvalidRequest for what the file is or did, ResourceExhausted where a limit or the system ended it."""

    @abstractmethod
    async def close(self) -> None:
        """Nothing may be under way."""


class DecoderPool(Decoders):
    """Processes, and the files that wait for one in order of arrival. Cancelling a job kills its process."""

    def __init__(self, limits: ProcessLimits) -> None:
        self._limits = limits
        self._idle: asyncio.LifoQueue[DecoderProcess] = asyncio.LifoQueue()
        self._processes: set[DecoderProcess] = set()
        self._replacing: set[asyncio.Task[None]] = set()

    @classmethod
    async def started(cls, count: int, limits: ProcessLimits) -> Self:
        """Raises RuntimeError or OSError when a process does not come up."""
        pool = cls(limits)
        try:
            await asyncio.gather(*(pool._add() for _ in range(count)))
        except BaseException:
            await pool.close()
            raise
        return pool

    async def decode(self, job: Job, data: bytes) -> Decoded:
        process = await self._next()
        try:
            async with asyncio.timeout(self._limits.seconds):
                decoded = await process.run(job, data)
        except InvalidRequest:
            self._give_back(process)
            raise
        except DecoderDied as error:
            self._replace(process)
            if error.was_stopped:
                raise DecoderStopped("the system stopped the decoder of this file") from error
            raise job.unreadable() from error
        except TimeoutError as error:
            self._replace(process)
            raise DecodeTimeout(f"the file was not decoded within {self._limits.seconds:g} s") from error
        except BaseException:
            self._replace(process)
            raise
        self._give_back(process)
        return decoded

    async def close(self) -> None:
        await stop(self._replacing)
        await asyncio.gather(*(process.kill() for process in self._processes))

    async def _next(self) -> DecoderProcess:
        """An idle process that has not died since it was last used."""
        while not (process := await self._idle.get()).is_alive:
            self._replace(process)
        return process

    def _give_back(self, process: DecoderProcess) -> None:
        if process.is_leaving:
            self._replace(process)
        else:
            self._idle.put_nowait(process)

    def _replace(self, process: DecoderProcess) -> None:
        task = asyncio.create_task(self._replaced(process))
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)

    async def _replaced(self, process: DecoderProcess) -> None:
        await process.kill()
        self._processes.discard(process)
        while True:
            try:
                return await self._add()
            except (OSError, RuntimeError, TimeoutError) as error:
                log.error("a decoder did not start", extra={"cause": str(error)})
                await asyncio.sleep(_RETRY_SECONDS)

    async def _add(self) -> None:
        process = await DecoderProcess.start(self._limits)
        self._processes.add(process)
        self._idle.put_nowait(process)
