"""Several streams as one: nothing is lost, nothing runs on."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.openai_api.merged import merged


class Stream:
    """Numbers, with pauses; then an end or a failure."""

    def __init__(self, pauses: list[int], *, fails: bool = False) -> None:
        self._pauses = pauses
        self._fails = fails
        self.is_closed = False

    async def run(self) -> AsyncGenerator[int, None]:
        try:
            for number, pause in enumerate(self._pauses):
                for _ in range(pause):
                    await asyncio.sleep(0)
                yield number
            if self._fails:
                raise ValueError("failed")
        finally:
            self.is_closed = True


async def drained(streams: list[AsyncGenerator[int, None]]) -> None:
    async with asyncio.timeout(30):
        async for _ in merged(streams):
            pass


@given(st.lists(st.lists(st.integers(0, 4), max_size=5), min_size=1, max_size=4))
async def test_every_event_comes_once_and_in_its_streams_order(pauses: list[list[int]]) -> None:
    streams = [Stream(each) for each in pauses]
    found: list[list[int]] = [[] for _ in streams]
    async for index, number in merged([stream.run() for stream in streams]):
        found[index].append(number)
    assert found == [list(range(len(each))) for each in pauses]
    assert all(stream.is_closed for stream in streams)


async def test_a_failure_stops_all_streams() -> None:
    streams = [Stream([1] * 1000), Stream([1], fails=True)]
    with pytest.raises(ValueError, match="failed"):
        async for _ in merged([stream.run() for stream in streams]):
            pass
    assert all(stream.is_closed for stream in streams)


async def test_closing_stops_all_streams() -> None:
    streams = [Stream([1] * 1000), Stream([0] * 1000)]
    events = merged([stream.run() for stream in streams])
    seen = {(await anext(events))[0] for _ in range(100)}
    assert seen == {0, 1}
    await events.aclose()
    assert all(stream.is_closed for stream in streams)


@pytest.mark.parametrize("stream_count", [2, 3, 16])
async def test_failures_in_the_same_moment_end_all(stream_count: int) -> None:
    """A task group that fails while it is cancelled drops the cancellation (cpython gh-116720)."""

    async def failing(index: int, start: asyncio.Event) -> AsyncGenerator[int, None]:
        async def fail() -> None:
            await start.wait()
            for _ in range(index % 4):
                await asyncio.sleep(0)
            raise ValueError(index)

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
        except* ValueError:
            raise ValueError(index) from None
        yield index

    for _ in range(20):
        start = asyncio.Event()
        asyncio.get_running_loop().call_later(0.005, start.set)
        with pytest.raises(ValueError, match=r"\d"):
            await drained([failing(index, start) for index in range(stream_count)])


async def test_a_failure_comes_through_while_events_wait_for_their_reader() -> None:
    """Its stream does not wait for a place that a reader who has gone never frees."""
    streams = [Stream([0] * 1000), Stream([0] * 1000), Stream([], fails=True)]
    events = merged([stream.run() for stream in streams])
    await anext(events)
    await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        await events.aclose()
    assert all(stream.is_closed for stream in streams)


async def test_a_stream_that_loses_a_cancellation_ends_too() -> None:
    async def stubborn() -> AsyncGenerator[int, None]:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)
        yield 0

    with pytest.raises(ValueError, match="failed"):
        await drained([stubborn(), Stream([1], fails=True).run()])
