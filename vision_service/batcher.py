"""Tiles of many requests through the model, in batches: one thread for each device, the event loop feeds them.

Every device has the whole model, and takes its next batch from the one queue when it is done with the last.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch

from internvl.errors import QueueFull
from vision_service.metrics import BATCH_SECONDS, BATCH_TILES, QUEUE_WAIT_SECONDS, TILES
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
    results: dict[int, torch.Tensor] = field(default_factory=dict)
    """First tile to rows: with several devices they come back in any order."""

    def add(self, first: int, rows: torch.Tensor) -> None:
        self.results[first] = rows
        if sum(len(result) for result in self.results.values()) == len(self.tiles) and not self.done.done():
            self.done.set_result(None)

    def rows(self) -> torch.Tensor:
        return torch.cat([rows for _, rows in sorted(self.results.items())])


class Batcher:
    """Encodes tiles; small requests first, none starved."""

    def __init__(self, encoders: Sequence[VisualEncoder], *, tiles_per_batch: int, max_queued_tiles: int) -> None:
        """`encoders` are the same model in the same dtype, one for each device."""
        self.dtype = next(encoders[0].parameters()).dtype
        self._tiles_per_batch = tiles_per_batch
        self._queue = TileQueue(max_tiles=max_queued_tiles)
        self._jobs: dict[Ticket, _Job] = {}
        self._devices = [_Device(encoder, index) for index, encoder in enumerate(encoders)]

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
        for device in self._devices:
            if device.running is None or device.running.done():
                device.running = asyncio.create_task(self._run(device))
        try:
            await job.done
            return job.rows()
        finally:
            self._queue.remove(ticket)
            del self._jobs[ticket]

    async def close(self) -> None:
        """Fails what waits, and waits for the batches that run."""
        for device in self._devices:
            if device.running is not None:
                device.running.cancel()
        for job in self._jobs.values():
            job.done.cancel()
        for device in self._devices:
            await asyncio.to_thread(device.thread.shutdown)

    async def _run(self, device: "_Device") -> None:
        """Runs batches until the queue is empty."""
        while batch := self._queue.take(self._tiles_per_batch, time.monotonic()):
            self._observe(batch)
            parts = []
            for ticket, count in batch:
                job = self._jobs[ticket]
                parts.append((job, job.sent_count, job.tiles[job.sent_count : job.sent_count + count]))
                job.sent_count += count
            try:
                results = await device.encode([tiles for _, _, tiles in parts])
            except Exception as error:  # noqa: BLE001 - whatever the device says, it is these requests' to hear
                _fail([job for job, _, _ in parts], error)
                continue
            for (job, first, _), rows in zip(parts, results, strict=True):
                job.add(first, rows)

    def _observe(self, batch: list[tuple[Ticket, int]]) -> None:
        """Before the batch counts as sent: a request's wait ends with its first tile."""
        BATCH_TILES.observe(sum(count for _, count in batch))
        for ticket, _ in batch:
            if self._jobs[ticket].sent_count == 0:
                QUEUE_WAIT_SECONDS.observe(time.monotonic() - ticket.arrived)


class _Device:
    """One copy of the model, and the thread that runs it."""

    def __init__(self, encoder: VisualEncoder, index: int) -> None:
        weight = next(encoder.parameters())
        self._encoder, self._device, self._dtype = encoder, weight.device, weight.dtype
        self.thread = ThreadPoolExecutor(1, thread_name_prefix=f"vision-model-{index}")
        self.running: asyncio.Task[None] | None = None

    async def encode(self, tiles: list[np.ndarray]) -> list[torch.Tensor]:
        """Rows (N, R, D) of each part."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, self._forward, tiles)

    def _forward(self, tiles: list[np.ndarray]) -> list[torch.Tensor]:
        with BATCH_SECONDS.time():
            pixels = normalize(np.concatenate(tiles)).to(device=self._device, dtype=self._dtype)
            rows: torch.Tensor = self._encoder(pixels).cpu()
        TILES.inc(len(rows))
        return list(torch.split(rows, [len(part) for part in tiles]))


def _fail(jobs: list[_Job], error: Exception) -> None:
    for job in jobs:
        if not job.done.done():
            job.done.set_exception(error)
