"""Both value stores keep the same promises; memory is the specification of Redis."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.errors import StoreUnavailable
from shared.value_store import MemoryStore, RedisStore, ValueStore


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[ValueStore]:
    store: ValueStore = MemoryStore(1 << 20) if request.param == "memory" else RedisStore(redis_url)
    yield store
    await store.close()


async def test_what_is_put_is_got_in_order(store: ValueStore) -> None:
    await store.put({"a": b"1", "b": b"\0\xff"}, 60)
    assert await store.get(["b", "missing", "a"]) == [b"\0\xff", None, b"1"]
    assert await store.get([]) == []


async def test_the_start_of_a_value(store: ValueStore) -> None:
    await store.put({"a": b"0123456789"}, 60)
    assert await store.get_start("a", 4) == b"0123"
    assert await store.get_start("missing", 4) == b""


async def test_values_expire_and_touching_gives_them_new_life(store: ValueStore) -> None:
    await store.put({"a": b"1", "b": b"2"}, 0.15)
    await store.touch(["a", "missing"], 60)
    await asyncio.sleep(0.25)
    assert await store.get(["a", "b"]) == [b"1", None]


async def test_deleting(store: ValueStore) -> None:
    await store.put({"a": b"1"}, 60)
    await store.delete(["a", "missing"])
    assert await store.get(["a"]) == [None]


async def test_replacing(store: ValueStore) -> None:
    await store.put({"a": b"old"}, 60)
    await store.put({"a": b"new"}, 60)
    assert await store.get(["a"]) == [b"new"]


async def test_memory_is_bounded_and_keeps_what_was_used_last() -> None:
    store = MemoryStore(10)
    await store.put({"a": b"aaaa", "b": b"bbbb"}, 60)
    await store.get(["a"])
    await store.put({"c": b"cccc"}, 60)
    assert await store.get(["a", "b", "c"]) == [b"aaaa", None, b"cccc"]
    await store.put({"huge": b"x" * 11}, 60)
    assert store.held_bytes <= 10


async def test_a_server_that_is_gone_is_unavailable_and_named_nowhere() -> None:
    store = RedisStore("redis://user:secret@127.0.0.1:1/0")
    for attempt in (store.ping(), store.get(["a"]), store.put({"a": b""}, 1), store.touch(["a"], 1)):
        with pytest.raises(StoreUnavailable) as caught:
            await attempt
        assert "secret" not in str(caught.value)
        assert "127.0.0.1" not in str(caught.value)
    await store.close()
