"""Decoding in threads of the same process: the plain way, for tests of what is around it."""

import asyncio

import numpy as np

from vision_service.decoder.job import Job
from vision_service.decoder.pool import Decoders
from vision_service.decoder.process import Decoded


class ThreadDecoders(Decoders):
    """Not for what strangers send."""

    async def decode(self, job: Job, data: bytes) -> Decoded:
        parts = await asyncio.to_thread(lambda: list(job.parts(data)))
        return Decoded(np.concatenate(parts), tuple(len(part) for part in parts))

    async def close(self) -> None:
        pass
