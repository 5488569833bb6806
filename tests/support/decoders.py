"""Decoding in threads of the same process: the plain way, for tests of what is around it."""

import asyncio

import numpy as np

from vision_service.decoder.job import Job
from vision_service.decoder.pool import Decoders
from vision_service.decoder.process import Decoded


class ThreadDecoders(Decoders):
    """Not for what strangers send."""

    async def decode(self, job: Job, data: bytes) -> Decoded:
        def decode() -> Decoded:
            parts = job.parts(data)
            tiles = list(parts.tiles)
            return Decoded(np.concatenate(tiles), tuple(map(len, tiles)), parts.source_count, parts.size)

        return await asyncio.to_thread(decode)

    async def close(self) -> None:
        pass
