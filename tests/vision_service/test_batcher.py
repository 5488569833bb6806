"""Batches on one device and on several: every request gets its own rows, in order."""

import asyncio
import threading

import numpy as np
import pytest
import torch

from internvl.errors import Unavailable
from vision_service.batcher import Batcher
from vision_service.pixels import normalize


class Summing(torch.nn.Module):
    """One row of one number for each tile; notes which thread ran it, and fails when it is told to."""

    def __init__(self, threads: set[str], *, waits_for: "threading.Barrier | None" = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.threads, self.waits_for = threads, waits_for
        self.is_broken = False
        self.is_free = threading.Event()
        self.is_free.set()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.threads.add(threading.current_thread().name)
        if self.waits_for is not None:
            self.waits_for.wait(timeout=30)
        self.is_free.wait()
        if self.is_broken:
            raise RuntimeError("device lost")
        return pixels.double().sum((1, 2, 3))[:, None, None].float()


def tiles(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), np.uint8)


def wanted(data: np.ndarray) -> torch.Tensor:
    return normalize(data).double().sum((1, 2, 3))[:, None, None].float()


def batcher_of(encoders: list[Summing], tiles_per_batch: int = 3, batch_seconds: float = 120.0) -> Batcher:
    return Batcher(
        encoders,  # type: ignore[arg-type]
        tiles_per_batch=tiles_per_batch,
        max_queued_tiles=1000,
        batch_seconds=batch_seconds,
    )


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


@pytest.mark.parametrize("device_count", [1, 2])
async def test_a_device_that_hangs_fails_all_that_wait(device_count: int) -> None:
    """Also with another device at work: its process is replaced as a whole."""
    encoders = [Summing(set()) for _ in range(device_count)]
    batcher = batcher_of(encoders, batch_seconds=0.2)
    failed = asyncio.create_task(batcher.failed())
    await batcher.encode(tiles(12, 0))
    encoders[0].is_free.clear()
    try:
        async with asyncio.timeout(60):
            results = await asyncio.gather(
                *(batcher.encode(tiles(9, seed)) for seed in range(4)), return_exceptions=True
            )
            assert Unavailable in [type(result) for result in results]
            assert {type(result) for result in results} <= {Unavailable, torch.Tensor}
            assert "has not returned" in await failed
            assert batcher.batch_age_seconds >= 0.2
            with pytest.raises(Unavailable):
                await batcher.encode(tiles(1, 0))
            await batcher.close()
    finally:
        encoders[0].is_free.set()


async def test_a_slow_batch_is_no_hang() -> None:
    encoder = Summing(set())
    batcher = batcher_of([encoder], batch_seconds=0.6)
    failed = asyncio.create_task(batcher.failed())
    for seed in range(5):
        encoder.is_free.clear()
        asyncio.get_running_loop().call_later(0.2, encoder.is_free.set)
        request = tiles(2, seed)
        assert torch.equal(await batcher.encode(request), wanted(request))
    assert not failed.done()
    failed.cancel()
    await batcher.close()
