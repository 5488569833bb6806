"""Every value store keeps the same promises; memory is the specification of Redis, however many servers that is."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator

import pytest

from internvl.errors import StoreUnavailable
from shared.store.framing import Value
from shared.store.redis_store import RedisStore
from shared.store.value_store import MemoryStore, ValueStore
from tests.support.redis import Cluster, RedisProcess, Sentinels, free_port, server
from tests.support.waiting import until


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    cluster.start()
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def tcp() -> Iterator[RedisProcess]:
    process = server(port=free_port())
    process.start()
    yield process
    process.close()


@pytest.fixture(params=["memory", "socket", "tcp", "cluster"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[ValueStore]:
    match request.param:
        case "memory":
            store: ValueStore = MemoryStore(1 << 26)
        case "socket":
            store = RedisStore(request.getfixturevalue("redis_url"))
        case "tcp":
            store = RedisStore(f"redis://127.0.0.1:{request.getfixturevalue('tcp').port}/1")
        case "cluster":
            store = RedisStore(request.getfixturevalue("cluster").url)
    yield store
    await store.close()


def named(test: pytest.FixtureRequest, *letters: str) -> list[str]:
    """Names that no other test uses, and that share a slot."""
    return [f"internvl:{{{test.node.name}}}:{letter}" for letter in letters]


async def test_what_is_put_is_got_in_order(store: ValueStore, request: pytest.FixtureRequest) -> None:
    a, b, missing = named(request, "a", "b", "missing")
    await store.put({a: b"1", b: b"\0\xff"}, 60)
    assert await store.get([b, missing, a]) == [b"\0\xff", None, b"1"]
    assert await store.get([]) == []


async def test_values_of_any_size(store: ValueStore, request: pytest.FixtureRequest) -> None:
    sizes = [0, 1, 4095, 4096, 16383, 16384, 16385, 70_000, 4 << 20]
    values = {named(request, str(size))[0]: random.Random(size).randbytes(size) for size in sizes}
    await store.put(values, 60)
    found = await store.get(list(values))
    assert found == list(values.values())
    if isinstance(store, RedisStore):
        assert type(found[-1]) is bytearray, "read by our own parser"


async def test_many_at_once(store: ValueStore, request: pytest.FixtureRequest) -> None:
    names = [f"internvl:{{{request.node.name}{index}}}" for index in range(300)]
    values = {name: random.Random(index).randbytes(99 * index) for index, name in enumerate(names)}

    async def round_trip(name: str, value: bytes) -> Value | None:
        await store.put({name: value}, 60)
        (found,) = await store.get([name])
        return found

    assert await asyncio.gather(*(round_trip(name, value) for name, value in values.items())) == list(values.values())


async def test_touching_gives_new_life_and_counts(store: ValueStore, request: pytest.FixtureRequest) -> None:
    a, b, missing = named(request, "a", "b", "missing")
    await store.put({a: b"1", b: b"2"}, 0.2)
    assert await store.touch([a, missing], 60) == 1
    await asyncio.sleep(0.3)
    assert await store.get([a, b]) == [b"1", None]


async def test_deleting(store: ValueStore, request: pytest.FixtureRequest) -> None:
    a, missing = named(request, "a", "missing")
    await store.put({a: b"1"}, 60)
    await store.delete([a, missing])
    assert await store.get([a]) == [None]


async def test_replacing(store: ValueStore, request: pytest.FixtureRequest) -> None:
    (a,) = named(request, "a")
    await store.put({a: b"old"}, 60)
    await store.put({a: b"new"}, 60)
    assert await store.get([a]) == [b"new"]


async def test_a_name_is_acquired_by_one_token(store: ValueStore, request: pytest.FixtureRequest) -> None:
    (a,) = named(request, "a")
    taken = await asyncio.gather(*(store.acquire(a, bytes([token]), 60) for token in range(20)))
    assert sum(taken) == 1
    holder = bytes([taken.index(True)])
    await store.release(a, b"another")
    assert not await store.acquire(a, b"another", 60)
    assert await store.acquire(a, holder, 0.1), "renewed"
    await asyncio.sleep(0.2)
    assert await store.acquire(a, b"another", 60), "it ended by itself"
    await store.release(a, b"another")
    assert await store.get([a]) == [None]


async def test_memory_is_bounded_and_keeps_what_was_used_last() -> None:
    store = MemoryStore(10)
    await store.put({"a": b"aaaa", "b": b"bbbb"}, 60)
    await store.get(["a"])
    await store.put({"c": b"cccc"}, 60)
    assert await store.get(["a", "b", "c"]) == [b"aaaa", None, b"cccc"]
    await store.put({"huge": b"x" * 11}, 60)
    assert store.held_bytes <= 10


async def test_a_cluster_spreads_embeddings_and_keeps_each_together(cluster: Cluster) -> None:
    store = RedisStore(cluster.url)
    before = cluster.key_counts()
    for index in range(60):
        await store.put({f"internvl:{{spread{index}}}:{tile}": b"x" for tile in range(13)}, 60)
    counts = [after - before for after, before in zip(cluster.key_counts(), before, strict=True)]
    assert sum(counts) == 60 * 13
    assert all(count > 0 and count % 13 == 0 for count in counts)
    await store.close()


async def test_a_sentinel_leads_to_the_new_master() -> None:
    sentinels = Sentinels("mymaster")
    try:
        await asyncio.to_thread(sentinels.start)
        store = RedisStore(sentinels.url)
        await store.put({"internvl:{a}:0": b"1"}, 60)
        with sentinels.replica.client() as replica:
            await until(lambda: replica.get("internvl:{a}:0") == b"1", "the replica has it")
        sentinels.master.stop()
        await _written(store)
        assert await store.get(["internvl:{a}:0", "internvl:{a}:1"]) == [b"1", b"2"]
        await store.close()
    finally:
        sentinels.close()


async def _written(store: ValueStore) -> None:
    """Returns when a write succeeds."""
    for _ in range(300):
        try:
            await store.put({"internvl:{a}:1": b"2"}, 60)
        except StoreUnavailable:
            await asyncio.sleep(0.05)
        else:
            return
    raise AssertionError("there is no new master")
