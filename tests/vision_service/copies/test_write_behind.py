"""Writes behind the answer are bounded, and whoever gives one up says so."""

import asyncio
import random

import pytest

from internvl.errors import StoreUnavailable
from shared.serving.metrics import REGISTRY
from vision_service.copies.write_behind import WriteBehind


def dropped_count() -> float:
    """As Prometheus sees it."""
    return REGISTRY.get_sample_value("internvl_vision_dropped_writes_total") or 0.0


class Store:
    """Counts; goes on when `gate` opens, or fails."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.names: list[str] = []
        self.running = self.most_running = 0
        self.failure: Exception | None = None

    def write(self, name: str) -> "asyncio.Future[None]":
        return asyncio.ensure_future(self._write(name))

    async def _write(self, name: str) -> None:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self.gate.wait()
            if self.failure is not None:
                raise self.failure
            self.names.append(name)
        finally:
            self.running -= 1


async def test_the_future_tells_when_it_is_written() -> None:
    writes, store = WriteBehind(100), Store()
    written = await writes.write("a", 60, lambda: store.write("a"))
    await asyncio.sleep(0)
    assert not written.done()
    assert writes.pending_bytes == 60
    store.gate.set()
    assert await written
    assert writes.pending_bytes == 0


async def test_past_the_bound_one_waits_and_then_gives_up() -> None:
    writes, store = WriteBehind(100, wait_seconds=0.05), Store()
    first = await writes.write("a", 60, lambda: store.write("a"))
    before = dropped_count()
    second = await writes.write("b", 60, lambda: store.write("b"))
    assert second.done()
    assert not second.result()
    assert (dropped_count() - before, writes.is_failing) == (1, True)
    writes.offer("c", 60, lambda: store.write("c"))
    store.gate.set()
    assert await first
    assert await (await writes.write("d", 60, lambda: store.write("d")))
    assert store.names == ["a", "d"]
    assert not writes.is_failing


async def test_whoever_waits_goes_in_turn() -> None:
    writes, store = WriteBehind(100), Store()
    await writes.write("a", 100, lambda: store.write("a"))
    waiting = [asyncio.create_task(writes.write(name, 100, lambda name=name: store.write(name))) for name in "bcd"]  # type: ignore[misc]
    await asyncio.sleep(0)
    store.gate.set()
    assert all([await (await task) for task in waiting])
    assert store.names == ["a", "b", "c", "d"]


async def test_larger_than_the_bound_goes_alone() -> None:
    writes, store = WriteBehind(100), Store()
    store.gate.set()
    assert await (await writes.write("huge", 1000, lambda: store.write("huge")))
    await writes.write("a", 50, lambda: store.write("a"))
    assert await (await writes.write("huge", 1000, lambda: store.write("huge")))


async def test_one_name_is_on_its_way_once() -> None:
    writes, store = WriteBehind(100), Store()
    first = await writes.write("a", 10, lambda: store.write("a"))
    writes.offer("a", 10, lambda: store.write("a"))
    assert await writes.write("a", 10, lambda: store.write("a")) is first
    store.gate.set()
    await first
    assert store.names == ["a"]


@pytest.mark.parametrize("failure", [StoreUnavailable("full"), RuntimeError("a bug")])
async def test_a_failure_is_told_and_gives_its_room_back(failure: Exception) -> None:
    writes, store = WriteBehind(100), Store()
    store.failure = failure
    store.gate.set()
    assert not await (await writes.write("a", 60, lambda: store.write("a")))
    assert writes.pending_bytes == 0
    assert writes.is_failing == isinstance(failure, StoreUnavailable)


async def test_a_storm_stays_within_its_bounds() -> None:
    writes, store = WriteBehind(1000, wait_seconds=60), Store()
    store.gate.set()
    generator = random.Random(0)

    async def one(index: int) -> None:
        write = writes.write(str(index), generator.randrange(400), lambda: store.write(str(index)))
        if generator.random() < 0.3:
            task = asyncio.create_task(write)
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        else:
            assert await (await write)
        assert writes.pending_bytes <= 1000

    await asyncio.gather(*(one(index) for index in range(300)))
    await writes.close()
    assert (writes.pending_bytes, store.running, len(writes._waiting)) == (0, 0, 0)
    assert store.most_running <= 2
