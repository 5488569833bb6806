"""Batches on one device and on several: every request gets its own rows, in order."""

import asyncio
import threading

import numpy as np
import pytest
import torch

from vision_service.batcher import Batcher
from vision_service.pixels import normalize


class Summing(torch.nn.Module):
    """One row of one number for each tile; notes which thread ran it, and fails when it is told to."""

    def __init__(self, threads: set[str], *, waits_for: "threading.Barrier | None" = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.threads, self.waits_for = threads, waits_for
        self.is_broken = False

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.threads.add(threading.current_thread().name)
        if self.waits_for is not None:
            self.waits_for.wait(timeout=30)
        if self.is_broken:
            raise RuntimeError("device lost")
        return pixels.double().sum((1, 2, 3))[:, None, None].float()


def tiles(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), np.uint8)


def wanted(data: np.ndarray) -> torch.Tensor:
    return normalize(data).double().sum((1, 2, 3))[:, None, None].float()


def batcher_of(encoders: list[Summing], tiles_per_batch: int = 3) -> Batcher:
    return Batcher(encoders, tiles_per_batch=tiles_per_batch, max_queued_tiles=1000)  # type: ignore[arg-type]


@pytest.mark.parametrize("device_count", [1, 2, 3])
async def test_everyone_gets_their_own_rows_in_order(device_count: int) -> None:
    threads: set[str] = set()
    batcher = batcher_of([Summing(threads) for _ in range(device_count)])
    requests = [tiles(count, seed) for seed, count in enumerate([1, 20, 2, 7, 1, 13])]
    rows = await asyncio.gather(*(batcher.encode(request) for request in requests))
    for request, own in zip(requests, rows, strict=True):
        assert torch.equal(own, wanted(request))
    assert batcher.queued_tile_count == 0
    await batcher.close()


async def test_devices_work_at_the_same_time() -> None:
    """Each batch waits for another one to run beside it."""
    threads: set[str] = set()
    together = threading.Barrier(2)
    batcher = batcher_of([Summing(threads, waits_for=together) for _ in range(2)])
    request = tiles(12, 0)
    assert torch.equal(await batcher.encode(request), wanted(request))
    assert len(threads) == 2
    await batcher.close()


async def test_what_a_device_says_reaches_its_requests_alone() -> None:
    encoder = Summing(set())
    batcher = batcher_of([encoder])
    encoder.is_broken = True
    with pytest.raises(RuntimeError, match="device lost"):
        await batcher.encode(tiles(5, 0))
    encoder.is_broken = False
    request = tiles(5, 1)
    assert torch.equal(await batcher.encode(request), wanted(request))
    await batcher.close()
