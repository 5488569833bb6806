"""Work wanted on many replicas is done on one; whatever happens to that one, everybody gets a result."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.store.redis_store import RedisStore
from shared.store.value_store import MemoryStore, ValueStore
from tests.support.redis import RedisProcess
from tests.support.waiting import until
from vision_service.copies.replica_flight import ReplicaFlight


class Work:
    """A result that all replicas see once it is stored, some time after it is made."""

    def __init__(self) -> None:
        self.result: int | None = None
        self.started = 0
        self.gate = asyncio.Event()
        self.stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def work(self) -> tuple[int, "asyncio.Future[bool]"]:
        self.started += 1
        await self.gate.wait()
        return 42, self.stored

    async def find(self) -> int | None:
        return self.result

    def store(self) -> None:
        self.result = 42
        self.stored.set_result(True)


@pytest.fixture(params=["memory", "redis"])
async def values(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[ValueStore]:
    values: ValueStore = MemoryStore(1 << 20) if request.param == "memory" else RedisStore(redis_url)
    yield values
    await values.close()


def replicas(values: ValueStore, count: int, *, wait_seconds: float = 60) -> list[ReplicaFlight[int]]:
    return [ReplicaFlight(values, wait_seconds=wait_seconds, lease_seconds=0.3) for _ in range(count)]


def start(replica: ReplicaFlight[int], work: Work) -> "asyncio.Task[int]":
    return asyncio.create_task(replica.run("key", work.work, work.find))


async def test_one_works_and_the_others_wait_until_it_is_stored(values: ValueStore) -> None:
    work = Work()
    flights = replicas(values, 5)
    tasks = [start(flight, work) for flight in flights]
    await until(lambda: work.started, "one has begun")
    await asyncio.sleep(0.5)  # longer than a lease
    work.gate.set()
    done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0.4)
    assert (len(done), len(waiting)) == (1, 4), "what is not stored nobody else can find"
    work.store()
    assert await asyncio.gather(*tasks) == [42] * 5
    assert work.started == 1
    for flight in flights:
        await flight.close()


async def test_it_is_looked_for_before_anyone_works(values: ValueStore) -> None:
    work = Work()
    work.store()
    (flight,) = replicas(values, 1)
    assert await flight.run("key", work.work, work.find) == 42
    assert work.started == 0
    await flight.close()
    assert await values.get(["internvl:lease:{key}"]) == [None]


async def test_whoever_finds_it_here_leaves_the_lease_alone(values: ValueStore) -> None:
    """A late request of the holder's own replica finds the result in memory while nobody else can find it yet."""
    work = Work()
    flight, other = replicas(values, 2)
    work.gate.set()
    assert await start(flight, work) == 42

    async def found_in_memory() -> int:
        return 42

    assert await flight.run("key", work.work, found_in_memory) == 42
    waiting = start(other, work)
    await asyncio.sleep(0.1)
    assert not waiting.done()
    work.store()
    assert await waiting == 42
    assert work.started == 1
    for one in (flight, other):
        await one.close()


async def test_a_cancelled_holder_hands_over(values: ValueStore) -> None:
    work = Work()
    first, second = replicas(values, 2)
    holder = start(first, work)
    await until(lambda: work.started == 1, "the first works")
    other = start(second, work)
    holder.cancel()
    await until(lambda: work.started == 2, "the second works")
    work.gate.set()
    assert await other == 42
    work.store()
    for flight in (first, second):
        await flight.close()


async def test_a_failed_holder_hands_over(values: ValueStore) -> None:
    work = Work()
    first, second = replicas(values, 2)

    async def failing() -> tuple[int, "asyncio.Future[bool]"]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await first.run("key", failing, work.find)
    work.gate.set()
    assert await second.run("key", work.work, work.find) == 42
    work.store()
    for flight in (first, second):
        await flight.close()


async def test_a_dead_holder_is_waited_for_no_longer_than_its_lease(values: ValueStore) -> None:
    work = Work()
    work.gate.set()
    assert await values.acquire("internvl:lease:{key}", b"dead", 0.3)
    (flight,) = replicas(values, 1)
    assert await flight.run("key", work.work, work.find) == 42
    work.store()
    await flight.close()


async def test_a_slow_holder_is_waited_for_no_longer_than_told(values: ValueStore) -> None:
    work = Work()
    work.gate.set()
    assert await values.acquire("internvl:lease:{key}", b"slow", 60)
    (flight,) = replicas(values, 1, wait_seconds=0.1)
    assert await flight.run("key", work.work, work.find) == 42
    assert not await values.acquire("internvl:lease:{key}", b"another", 60), "it is still the slow one's"


async def test_without_a_store_everyone_works(own_redis: RedisProcess) -> None:
    values = RedisStore(own_redis.url)
    own_redis.stop()
    work = Work()
    work.gate.set()
    flights = replicas(values, 3)
    assert await asyncio.gather(*(start(flight, work) for flight in flights)) == [42] * 3
    assert work.started == 3
    await values.close()


async def test_a_store_that_goes_away_meanwhile_hurts_nobody(own_redis: RedisProcess) -> None:
    values = RedisStore(own_redis.url)
    work = Work()
    flights = replicas(values, 2)
    tasks = [start(flight, work) for flight in flights]
    await until(lambda: work.started == 1, "one works")
    own_redis.stop()
    await until(lambda: work.started == 2, "the other one, too")
    work.gate.set()
    assert await asyncio.gather(*tasks) == [42] * 2
    work.store()
    for flight in flights:
        await flight.close()
    await values.close()
