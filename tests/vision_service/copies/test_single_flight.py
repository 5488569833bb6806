"""Equal work is done once, and whoever leaves takes nobody along."""

import asyncio

import pytest

from vision_service.copies.single_flight import SingleFlight


class Work:
    """Counts how often it starts and ends; goes on when `gate` opens."""

    def __init__(self) -> None:
        self.started = self.ended = self.cancelled = 0
        self.gate = asyncio.Event()

    async def __call__(self) -> int:
        self.started += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.ended += 1
        return 42


async def test_many_askers_one_run() -> None:
    flights, work = SingleFlight[int](), Work()
    asking = [asyncio.create_task(flights.run("k", work)) for _ in range(20)]
    await asyncio.sleep(0)
    work.gate.set()
    assert await asyncio.gather(*asking) == [42] * 20
    assert (work.started, work.ended) == (1, 1)


async def test_the_leader_leaves_and_the_others_get_their_answer() -> None:
    flights, work = SingleFlight[int](), Work()
    leader, follower = (asyncio.create_task(flights.run("k", work)) for _ in range(2))
    await asyncio.sleep(0.01)
    leader.cancel()
    await asyncio.sleep(0)
    work.gate.set()
    assert await follower == 42
    assert work.started == 1
    with pytest.raises(asyncio.CancelledError):
        await leader


async def test_when_all_leave_the_work_stops_and_can_start_anew() -> None:
    flights, work = SingleFlight[int](), Work()
    asking = [asyncio.create_task(flights.run("k", work)) for _ in range(3)]
    await asyncio.sleep(0.01)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    work.gate.set()
    assert await flights.run("k", work) == 42
    assert (work.started, work.cancelled, work.ended) == (2, 1, 1)


async def test_a_failure_reaches_all_and_is_not_remembered() -> None:
    flights = SingleFlight[int]()
    fails = True

    async def work() -> int:
        await asyncio.sleep(0.01)
        if fails:
            raise ValueError("no")
        return 1

    results = await asyncio.gather(*(flights.run("k", work) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError] * 3
    fails = False
    assert await flights.run("k", work) == 1


async def test_other_keys_do_not_wait() -> None:
    flights, work = SingleFlight[int](), Work()
    blocked = asyncio.create_task(flights.run("a", work))

    async def quick() -> int:
        return 7

    assert await flights.run("b", quick) == 7
    work.gate.set()
    await blocked
