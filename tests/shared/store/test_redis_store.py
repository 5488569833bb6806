"""What a Redis that misbehaves does to its callers: a StoreUnavailable soon, or the right value; nothing else."""

import asyncio
import ssl
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import redis
import trustme

from internvl.errors import StoreUnavailable
from shared.store.redis_store import RedisStore
from tests.support.faulty_proxy import Fault, FaultyProxy
from tests.support.redis import RedisProcess, server
from tests.support.waiting import until

VALUE = bytes(range(256)) * 4096  # 1 MiB
NAMES = ["internvl:{a}:0", "internvl:{a}:1"]


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[FaultyProxy]:
    async with FaultyProxy(redis_url.removeprefix("unix://")) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: FaultyProxy) -> AsyncIterator[RedisStore]:
    store = RedisStore(f"redis://127.0.0.1:{proxy.port}", timeout_seconds=0.3)
    await store.put(dict.fromkeys(NAMES, VALUE), 60)
    yield store
    await store.close()


async def all_calls(store: RedisStore) -> list[object]:
    """What each kind of call gives or raises."""
    calls = (
        store.get(NAMES), store.put({NAMES[0]: VALUE}, 60), store.touch(NAMES, 60), store.delete(["internvl:{b}"]),
        store.acquire("internvl:{l}", b"t", 60), store.release("internvl:{l}", b"t"), store.ping(),
    )  # fmt: skip
    return list(await asyncio.gather(*calls, return_exceptions=True))


async def test_a_server_that_is_gone_is_unavailable_and_named_nowhere() -> None:
    store = RedisStore("redis://user:secret@127.0.0.1:1/0")
    for outcome in await all_calls(store):
        assert isinstance(outcome, StoreUnavailable)
        assert "secret" not in str(outcome)
        assert "127.0.0.1" not in str(outcome)
    await store.close()


async def test_a_server_that_came_back_is_used_at_once(own_redis: RedisProcess) -> None:
    store = RedisStore(own_redis.url)
    await store.put({NAMES[0]: VALUE}, 60)
    own_redis.stop()
    with pytest.raises(StoreUnavailable):
        await store.get(NAMES)
    own_redis.start()
    assert await store.get(NAMES) == [None, None]
    await store.close()


async def test_a_silent_server_is_asked_no_more_until_it_answers(store: RedisStore, proxy: FaultyProxy) -> None:
    proxy.fault = Fault.STALL
    assert all(isinstance(outcome, StoreUnavailable) for outcome in await all_calls(store))
    assert store.is_silent
    started = time.monotonic()
    for _ in range(1000):
        with pytest.raises(StoreUnavailable, match="did not answer before"):
            await store.get(NAMES)
    assert time.monotonic() - started < 10, "a thousand times its patience would be 300 s"
    proxy.fault = Fault.NONE
    await until(lambda: not store.is_silent, "it is asked again")
    assert await store.get(NAMES) == [VALUE, VALUE]


async def test_a_slow_server_is_waited_for(store: RedisStore, proxy: FaultyProxy) -> None:
    proxy.fault = Fault.SLOW
    await store.put({NAMES[0]: VALUE[:100]}, 60)
    assert await store.get(NAMES[:1]) == [VALUE[:100]]


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.GARBAGE, Fault.FLIP], ids=["cut", "garbage", "flip"])
async def test_nonsense_never_gets_past(store: RedisStore, proxy: FaultyProxy, fault: Fault) -> None:
    """Whatever comes, a call ends, as a value or as our error; and the next one begins on a clean connection."""
    for _ in range(12):
        proxy.fault = fault
        for outcome in await all_calls(store):
            assert not isinstance(outcome, BaseException) or isinstance(outcome, StoreUnavailable), repr(outcome)
        proxy.fault = Fault.NONE
        await until(lambda: not store.is_silent, "it is asked again", seconds=60)
        await store.put(dict.fromkeys(NAMES, VALUE), 60)
        assert await store.get(NAMES) == [VALUE, VALUE]


async def test_a_length_that_nobody_would_send_takes_no_memory(store: RedisStore, proxy: FaultyProxy) -> None:
    proxy.fault = Fault.GARBAGE
    tracemalloc.start()
    try:
        for _ in range(100):
            await all_calls(store)
        assert tracemalloc.get_traced_memory()[1] < 1 << 30
    finally:
        tracemalloc.stop()


async def test_a_call_that_is_cancelled_leaves_no_reply_for_the_next(store: RedisStore) -> None:
    for delay in range(200):
        call = asyncio.create_task(store.get(NAMES))
        for _ in range(delay % 20):
            await asyncio.sleep(0)
        call.cancel()
        assert await store.get([f"internvl:{{other{delay}}}"]) == [None]
    assert await store.get(NAMES) == [VALUE, VALUE]


async def test_a_large_value_is_copied_once(redis_url: str) -> None:
    """From the socket into the buffer that the caller gets. redis-py's own parser takes more at its peak."""
    big = bytes(8 << 20)
    store = RedisStore(redis_url)
    plain = redis.asyncio.Redis.from_url(redis_url)
    await store.put({"internvl:{big}": big}, 60)

    async def peak_of(read: Callable[[], Awaitable[object]]) -> float:
        tracemalloc.start()
        try:
            value = await read()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert value in (big, [big])
        return peak / len(big)

    assert await peak_of(lambda: store.get(["internvl:{big}"])) < 1.1
    assert await peak_of(lambda: plain.get("internvl:{big}")) > 1.9
    await store.close()
    await plain.aclose()


async def test_a_full_server_refuses_writes_and_still_reads() -> None:
    process = server("--maxmemory", "6mb", "--maxmemory-policy", "noeviction")
    process.start()
    store = RedisStore(process.url)
    await store.put({NAMES[0]: VALUE}, 60)
    with pytest.raises(StoreUnavailable, match="OutOfMemory"):
        await store.put({f"internvl:{{{index}}}": VALUE for index in range(20)}, 60)
    assert await store.get(NAMES[:1]) == [VALUE]
    assert not store.is_silent
    await store.close()
    process.close()


async def test_over_tls(redis_url: str, tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    other.cert_pem.write_to_path(tmp_path / "other.pem")
    async with FaultyProxy(redis_url.removeprefix("unix://"), tls=context) as proxy:
        store = RedisStore(f"rediss://127.0.0.1:{proxy.port}/0?ssl_ca_certs={tmp_path / 'ca.pem'}")
        await store.put({NAMES[0]: VALUE}, 60)
        assert await store.get(NAMES) == [VALUE, None]
        stranger = RedisStore(f"rediss://127.0.0.1:{proxy.port}/0?ssl_ca_certs={tmp_path / 'other.pem'}")
        with pytest.raises(StoreUnavailable):
            await stranger.ping()
        for one in (store, stranger):
            await one.close()


async def test_a_user_with_the_rights_that_are_documented_and_no_others(own_redis: RedisProcess) -> None:
    import shared.store.redis_store

    assert shared.store.redis_store.__doc__ is not None
    documented = shared.store.redis_store.__doc__.split("`internvl:*`:")[1].split(", and in a cluster")[0].split()
    with own_redis.client() as client:
        client.execute_command("ACL", "SETUSER", "serving", "on", ">p@ss", "~internvl:*", *documented)
        client.execute_command("ACL", "SETUSER", "default", "off")
    store = RedisStore(f"{own_redis.url.replace('unix://', 'unix://serving:p%40ss@')}?db=0")
    for outcome in await all_calls(store):
        assert not isinstance(outcome, BaseException), repr(outcome)
    with pytest.raises(StoreUnavailable, match="NoPermission"):
        await store.get(["of another application"])
    stranger = RedisStore(own_redis.url)
    with pytest.raises(StoreUnavailable):
        await stranger.ping()
    for one in (store, stranger):
        await one.close()
