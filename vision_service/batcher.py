"""Tiles of many requests through the model, in batches: one thread runs the model, the event loop feeds it."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch

from shared.errors import QueueFull
from vision_service.model.tower import VisualEncoder
from vision_service.pixels import normalize
from vision_service.tile_queue import Ticket, TileQueue


@dataclass(eq=False)
class _Job:
    """A request's tiles, and what has come back for them."""

    tiles: np.ndarray
    """uint8 (N, S, S, 3)."""
    done: asyncio.Future[None]
    sent_count: int = 0
    results: list[torch.Tensor] = field(default_factory=list)


class Batcher:
    """Encodes tiles; small requests first, none starved."""

    def __init__(self, encoder: VisualEncoder, *, tiles_per_batch: int, max_queued_tiles: int) -> None:
        weight = next(encoder.parameters())
        self._encoder, self._device, self.dtype = encoder, weight.device, weight.dtype
        self._tiles_per_batch = tiles_per_batch
        self._queue = TileQueue(max_tiles=max_queued_tiles)
        self._jobs: dict[Ticket, _Job] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vision-model")
        self._running: asyncio.Task[None] | None = None

    @property
    def queued_tile_count(self) -> int:
        """Tiles waiting for the model."""
        return self._queue.tile_count

    async def encode(self, tiles: np.ndarray) -> torch.Tensor:
        """uint8 (N, S, S, 3) -> (N, R, D) on the CPU, in the model's dtype. Raises QueueFull.

        Cancelling takes the tiles that no batch has taken out of the queue.
        """
        if not self._queue.has_room(len(tiles)):
            raise QueueFull(f"{self._queue.tile_count} tiles wait already", retry_after_seconds=2.0)
        ticket = Ticket(time.monotonic(), len(tiles))
        job = _Job(tiles, asyncio.get_running_loop().create_future())
        self._jobs[ticket] = job
        self._queue.add(ticket)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        try:
            await job.done
            return torch.cat(job.results)
        finally:
            self._queue.remove(ticket)
            del self._jobs[ticket]

    async def close(self) -> None:
        """Fails what waits, and waits for the batch that runs."""
        if self._running is not None:
            self._running.cancel()
        for job in self._jobs.values():
            job.done.cancel()
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self) -> None:
        """Runs batches until the queue is empty."""
        loop = asyncio.get_running_loop()
        while batch := self._queue.take(self._tiles_per_batch, time.monotonic()):
            jobs = [(self._jobs[ticket], count) for ticket, count in batch]
            tiles = [job.tiles[job.sent_count : job.sent_count + count] for job, count in jobs]
            for job, count in jobs:
                job.sent_count += count
            try:
                results = await loop.run_in_executor(self._thread, self._forward, tiles)
            except Exception as error:  # noqa: BLE001 - whatever the device says, it is these requests' to hear
                _fail([job for job, _ in jobs], error)
                continue
            for (job, _), result in zip(jobs, results, strict=True):
                job.results.append(result)
                if job.sent_count == len(job.tiles) and not job.done.done():
                    job.done.set_result(None)

    def _forward(self, tiles: list[np.ndarray]) -> list[torch.Tensor]:
        pixels = normalize(np.concatenate(tiles)).to(device=self._device, dtype=self.dtype)
        rows: torch.Tensor = self._encoder(pixels).cpu()
        return list(torch.split(rows, [len(part) for part in tiles]))


def _fail(jobs: list[_Job], error: Exception) -> None:
    for job in jobs:
        if not job.done.done():
            job.done.set_exception(error)
