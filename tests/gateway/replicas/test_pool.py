"""Several replicas behind one gateway: chosen, left alone, found by name; over real gRPC."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from gateway.replicas import health
from internvl.client import ChatClient, Delta, Event, Finished, Image, Started, user
from internvl.errors import BackendUnavailable, Draining, MediaExpired, QueueFull
from tests.support.fakes import FakeLlm, FakeVision, model_info, serving
from tests.support.gateway import gateway_serving


class Fleet:
    """Two of each, and the gateway's address."""

    def __init__(self) -> None:
        self.visions = [FakeVision(), FakeVision()]
        self.llms = [FakeLlm(), FakeLlm()]
        self.address = ""


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    fleet = Fleet()
    async with AsyncExitStack() as stack:
        visions = [await stack.enter_async_context(serving(vision)) for vision in fleet.visions]
        llms = [await stack.enter_async_context(serving(llm)) for llm in fleet.llms]
        fleet.address = await stack.enter_async_context(gateway_serving(",".join(visions), ",".join(llms)))
        await until(lambda: all(fake.checks > 1 for fake in (*fleet.visions, *fleet.llms)))  # the first check counts
        yield fleet


@pytest.fixture
async def client(fleet: Fleet) -> AsyncIterator[ChatClient]:
    async with ChatClient(fleet.address) as client:
        yield client


async def chat(client: ChatClient, *parts: str | bytes | Image) -> list[Event]:
    return [event async for event in client.chat([user(*parts)], timeout=20.0)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what we wait for is in a server
            await asyncio.sleep(0.01)


async def test_a_conversation_stays_and_conversations_spread(fleet: Fleet, client: ChatClient) -> None:
    for name in range(16):
        before = [len(llm.requests) for llm in fleet.llms]
        for _ in range(3):
            await chat(client, f"conversation {name}")
        gained = [len(llm.requests) - count for llm, count in zip(fleet.llms, before, strict=True)]
        assert sorted(gained) == [0, 3]
    assert all(llm.requests for llm in fleet.llms)


async def test_a_picture_stays_with_the_replica_that_has_it(fleet: Fleet, client: ChatClient) -> None:
    for name in range(12):
        for _ in range(2):
            await chat(client, f"question {name}", b"picture %d" % name)
    pictures = [{request.data for request in vision.encodes} for vision in fleet.visions]
    assert not pictures[0] & pictures[1]
    assert len(pictures[0] | pictures[1]) == 12


async def test_a_reply_moves_to_the_other_replica(fleet: Fleet, client: ChatClient) -> None:
    for llm in fleet.llms:
        llm.words = ["one ", "two ", "three"]
        llm.late_failures = [BackendUnavailable("gone")]
    _, *deltas, finished = await chat(client, "count")
    assert deltas == [Delta("one "), Delta("two "), Delta("three")]
    assert isinstance(finished, Finished)
    calls = [[list(request.resume_token_ids) for request in llm.requests] for llm in fleet.llms]
    assert [[0]] in calls, "the second call goes to the other replica"


async def test_a_replica_that_dies_costs_no_reply(vision: FakeVision) -> None:
    """A real server goes away in the middle of streams: with its grace over, they are cut."""
    llms = [FakeLlm(), FakeLlm()]
    for llm in llms:
        llm.gate = asyncio.Event()
    async with serving(vision) as vision_address, AsyncExitStack() as first, serving(llms[1]) as second_address:
        first_address = await first.enter_async_context(serving(llms[0]))
        async with (
            gateway_serving(vision_address, f"{first_address},{second_address}", max_concurrent_requests=32) as address,
            ChatClient(address) as client,
        ):
            replies = [asyncio.create_task(chat(client, f"conversation {name}")) for name in range(16)]
            await until(lambda: sum(len(llm.requests) for llm in llms) == 16 and llms[0].reached.is_set())
            await asyncio.sleep(0.05)
            await first.aclose()
            for llm in llms:
                assert llm.gate is not None
                llm.gate.set()
            for events in await asyncio.gather(*replies):
                assert [event for event in events if isinstance(event, Delta)] == [Delta("two "), Delta("circles")]
                assert isinstance(events[-1], Finished)


async def test_a_failing_replica_gets_no_calls_until_it_is_checked(
    fleet: Fleet, client: ChatClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_FIRST_EJECTION_SECONDS", 6.0)  # longer than the 24 calls take
    bad, good = fleet.llms
    bad.failures = [Draining("going")] * 3
    for name in range(24):
        assert isinstance((await chat(client, f"conversation {name}"))[-1], Finished)
    assert len(bad.failures) == 2, "ejected by its first failure"
    assert len(good.requests) == 24
    bad.failures = []

    async def comes_back() -> None:
        while len(bad.requests) < 2:
            await chat(client, f"conversation {len(bad.requests) + len(good.requests)}")

    await asyncio.wait_for(comes_back(), 20)


async def test_when_all_fail_all_are_asked(fleet: Fleet, client: ChatClient) -> None:
    for llm in fleet.llms:
        llm.failures = [Draining("going")] * 2
    assert isinstance((await chat(client, "?"))[-1], Finished)
    assert sum(len(llm.requests) for llm in fleet.llms) >= 3


async def test_a_full_replica_hands_over_to_one_with_room(fleet: Fleet, client: ChatClient) -> None:
    for llm in fleet.llms:
        llm.failures = [QueueFull("no room", retry_after_seconds=3.0)]
    with pytest.raises(QueueFull):
        await chat(client, "?")
    assert [len(llm.requests) for llm in fleet.llms] == [1, 1]
    fleet.llms[0].failures = [QueueFull("no room")]
    for name in range(8):
        assert isinstance((await chat(client, f"conversation {name}"))[-1], Finished)


async def test_a_file_is_found_on_whichever_replica_has_it(fleet: Fleet, client: ChatClient) -> None:
    """An upload is taken by any replica, and without a store the others know nothing of it."""
    for name in range(8):
        identifier = await client.upload(b"file %d" % name)
        started, *_ = await chat(client, Image(id=identifier), "?")
        assert isinstance(started, Started)
        assert started.media[0].id == identifier
    assert all(vision.files for vision in fleet.visions)
    with pytest.raises(MediaExpired):
        await chat(client, Image(id="media_" + "0" * 48), "?")


async def test_a_replica_with_another_checkpoint_is_left_out(
    fleet: Fleet, client: ChatClient, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.llms[0].info = model_info("0" * 64)
    await until(lambda: any("not used" in record.message for record in caplog.records))
    for name in range(12):
        assert isinstance((await chat(client, f"conversation {name}"))[-1], Finished)
    assert (len(fleet.llms[0].requests), len(fleet.llms[1].requests)) == (0, 12)
    (said,) = [record for record in caplog.records if "not used" in record.message]
    assert said.__dict__["fingerprint"] == "0" * 64


async def test_replicas_of_a_name_come_and_go(vision: FakeVision) -> None:
    """A headless service: one port, an address each; one that leaves the name ends what it has."""
    port = free_port()
    one, two = FakeLlm(), FakeLlm()
    answer = ["127.0.0.1"]

    async def resolve(name: str, _: int) -> list[str]:
        assert name == "llm.internal"
        return list(answer)

    async def talk_until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await chat(talker, f"conversation {len(one.requests) + len(two.requests)}")

    async with (
        serving(vision) as vision_address,
        serving(one, port, "127.0.0.1"),
        serving(two, port, "127.0.0.2"),
        gateway_serving(
            vision_address, f"dns:///llm.internal:{port}", max_concurrent_requests=256, resolve=resolve
        ) as address,
        ChatClient(address) as talker,
    ):
        await talk_until(lambda: len(one.requests) == 8)
        assert two.requests == []

        one.gate = gate = asyncio.Event()
        one.reached.clear()
        long_replies = [asyncio.create_task(chat(talker, "long"))]
        await one.reached.wait()
        answer[:] = ["127.0.0.2"]
        async with asyncio.timeout(10):
            while not two.requests:
                long_replies.append(asyncio.create_task(chat(talker, "another")))
                await asyncio.sleep(0.05)
        await talk_until(lambda: len(two.requests) == 8)
        assert not long_replies[0].done()
        gate.set()
        assert all(isinstance(events[-1], Finished) for events in await asyncio.gather(*long_replies))

        answer[:] = ["127.0.0.1", "127.0.0.2"]
        seen = len(one.requests)
        await talk_until(lambda: len(one.requests) > seen)


async def test_the_name_of_this_machine(vision: FakeVision, llm: FakeLlm) -> None:
    """The system's resolver; an address of it where nobody listens is no harm."""
    async with serving(vision) as vision_address, serving(llm) as llm_address:
        targets = [f"dns:///localhost:{address.rpartition(':')[2]}" for address in (vision_address, llm_address)]
        async with gateway_serving(*targets) as address, ChatClient(address) as client:
            assert isinstance((await chat(client, "?"))[-1], Finished)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
