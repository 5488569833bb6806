"""A process that hangs is a process that died: really stopped (SIGSTOP), over real gRPC."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from deploy.local.process import Child
from gateway.replicas.health import ReplicaHealth, Report, StallBound
from gateway.replicas.replica import Replica
from internvl.client import ChatClient, ChatSession, Delta, Event, Finished, Keepalive, user
from internvl.transport.channel import open_channel
from internvl.transport.tasks import stop
from internvl.vision.v1 import vision_pb2_grpc
from tests.support.fake_process import WORD_COUNT, SlowLlm, fake_process, running
from tests.support.fakes import FakeLlm, FakeVision, serving
from tests.support.gateway import gateway_settings, gateway_with
from tests.support.waiting import until

CHECK_TIMEOUT_SECONDS = 1.0
GAP_SECONDS = 5.0
"""Wanted with these settings; some 1.1 s on a calm machine."""
WORDS = "".join(f"{index} " for index in range(WORD_COUNT))


@asynccontextmanager
async def client_of(vision: str, llm: str, **more: Any) -> AsyncIterator[ChatClient]:
    settings = gateway_settings(vision, llm, backend_check_timeout_seconds=CHECK_TIMEOUT_SECONDS, **more)
    async with gateway_with(settings) as served, ChatClient(served.grpc) as client:
        yield client


class Reader:
    """Reads a reply, and notes when its events came."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.moments = [time.monotonic()]

    async def read(self, client: ChatClient, *parts: str | bytes) -> None:
        async for event in client.chat([user(*parts)], timeout=120.0):
            self.events.append(event)
            self.moments.append(time.monotonic())

    def has_begun(self) -> bool:
        return len(self.events) > 5

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Delta))

    @property
    def is_whole(self) -> bool:
        return isinstance(self.events[-1], Finished) and self.text == WORDS

    @property
    def longest_gap(self) -> float:
        return max(after - before for before, after in pairwise(self.moments))


async def reading_from(child: Child, llm: FakeLlm, client: ChatClient) -> tuple[Reader, "asyncio.Task[None]"]:
    """A reply that the process has begun."""
    for number in range(64):
        reader, before = Reader(), len(llm.requests)
        task = asyncio.create_task(reader.read(client, f"conversation {number}"))
        await until(reader.has_begun, "a reply begins")
        if len(llm.requests) == before:
            return reader, task
        await stop([task])
    raise AssertionError(f"no conversation of 64 went to {child.name}")


async def test_a_reply_moves_from_a_stopped_replica_and_the_replica_comes_back(tmp_path: Path) -> None:
    vision, other = FakeVision(), SlowLlm()
    async with (
        fake_process("llm", tmp_path) as child,
        serving(vision) as vision_address,
        serving(other) as other_address,
        client_of(vision_address, f"{child.address},{other_address}") as client,
    ):
        reader, task = await reading_from(child, other, client)
        os.kill(child.pid, signal.SIGSTOP)
        await task
        assert reader.is_whole
        assert reader.longest_gap < GAP_SECONDS
        assert other.requests[-1].resume_token_ids

        late = Reader()
        await late.read(client, "a new conversation goes to the one that answers")
        assert late.is_whole
        assert late.longest_gap < CHECK_TIMEOUT_SECONDS

        os.kill(child.pid, signal.SIGCONT)
        async with asyncio.timeout(60):
            _, task = await reading_from(child, other, client)
        await task


async def test_an_encoding_moves_from_a_stopped_replica(tmp_path: Path) -> None:
    llm, other = FakeLlm(), FakeVision()
    async with (
        fake_process("vision", tmp_path) as child,
        serving(llm) as llm_address,
        serving(other) as other_address,
        client_of(f"{child.address},{other_address}", llm_address) as client,
    ):
        os.kill(child.pid, signal.SIGSTOP)
        readers = [Reader() for _ in range(4)]  # some of which go to each
        await asyncio.gather(*(reader.read(client, b"image %d" % index) for index, reader in enumerate(readers)))
        assert all(isinstance(reader.events[-1], Finished) for reader in readers)
        assert max(reader.longest_gap for reader in readers) < GAP_SECONDS
        assert len(other.encodes) == len(readers)


async def test_without_another_replica_a_reply_waits_for_its_own(tmp_path: Path, vision: FakeVision) -> None:
    async with (
        fake_process("llm", tmp_path) as child,
        serving(vision) as vision_address,
        client_of(vision_address, child.address) as client,
    ):
        reader, task = await reading_from(child, FakeLlm(), client)
        os.kill(child.pid, signal.SIGSTOP)
        await asyncio.sleep(3 * CHECK_TIMEOUT_SECONDS)
        os.kill(child.pid, signal.SIGCONT)
        await task
        assert reader.is_whole


async def test_a_reply_moves_from_a_stopped_gateway(tmp_path: Path, vision: FakeVision) -> None:
    """The address names two; the client's own pings find out."""
    async with serving(vision) as vision_address, serving(SlowLlm()) as llm_address:
        services = ["--vision-address", vision_address, "--llm-address", llm_address]
        command = [sys.executable, "-m", "gateway", "--port", "0", *services]
        async with (
            running(await Child.start("gateway", command, log_folder=tmp_path)) as child,
            gateway_with(gateway_settings(vision_address, llm_address)) as served,
            ChatClient(f"ipv4:{child.address},{served.grpc}", keepalive=Keepalive(1.0, 1.0)) as client,
        ):
            await until(
                lambda: '"backends agree"' in (tmp_path / "gateway.log").read_text(), "the gateway knows its services"
            )
            text, moments = "", []
            async for event in ChatSession(client).ask("count", timeout=120.0):
                moments.append(time.monotonic())
                if isinstance(event, Delta):
                    text += event.text
                    if len(moments) == WORD_COUNT // 4:
                        os.kill(child.pid, signal.SIGSTOP)
            assert text == WORDS
            gaps = [after - before for before, after in pairwise(moments)]
            assert max(gaps) > 10 * sorted(gaps)[len(gaps) // 2], "the gateway that was stopped had the reply"
            assert max(gaps) < GAP_SECONDS + WORD_COUNT * 0.02


async def test_a_reply_moves_from_a_replica_whose_device_does_not_return(vision: FakeVision) -> None:
    """Its event loop answers checks; the age of its step tells."""
    llms = [FakeLlm(), FakeLlm()]
    async with (
        serving(vision) as vision_address,
        serving(llms[0]) as first_address,
        serving(llms[1]) as second_address,
        client_of(vision_address, f"{first_address},{second_address}", backend_stall_seconds=2.0) as client,
    ):
        for llm in llms:
            llm.gate = asyncio.Event()
        reader = Reader()
        task = asyncio.create_task(reader.read(client, "count"))
        await until(lambda: any(llm.requests for llm in llms), "a replica has the request")
        hung, other = sorted(llms, key=lambda llm: -len(llm.requests))
        await hung.reached.wait()
        other.gate = None
        await asyncio.sleep(2 * CHECK_TIMEOUT_SECONDS)
        assert not other.requests, "a long wait alone is no hang"
        hung.work_age_seconds = 3.0
        await task
        assert reader.text == "two circles"
        assert list(other.requests[0].resume_token_ids) == [0]
        assert hung.cancelled.is_set()


async def test_a_gateway_that_stood_still_blames_no_replica(vision: FakeVision) -> None:
    """Checks that run out because this process did not run say nothing of the replica."""

    async def ask(_: object) -> Report:
        time.sleep(1.0)  # noqa: ASYNC251 - stands for the process being stopped
        await asyncio.sleep(60)
        raise AssertionError("the check has run out")

    async with serving(vision) as address:
        channel = open_channel(address, max_message_bytes=1 << 20)
        stub = vision_pb2_grpc.VisionServiceStub(channel)
        replica = Replica(address, channel, stub, ReplicaHealth(StallBound(10.0)), check_timeout_seconds=0.2)
        await replica.check(ask)
        assert not replica.health.is_silent
        await replica.close()


@pytest.mark.parametrize("silent", [True, False])
async def test_only_calls_that_bring_nothing_are_ended(silent: bool) -> None:
    class Call:
        was_cancelled = False

        def cancel(self) -> bool:
            self.was_cancelled = True
            return True

    call = Call()
    channel = open_channel("127.0.0.1:1", max_message_bytes=1 << 20)
    replica = Replica("a", channel, None, ReplicaHealth(StallBound(10.0)), check_timeout_seconds=0.2)
    with replica.calling(call) as in_flight:
        await asyncio.sleep(0.15)
        if not silent:
            in_flight.heard()
        assert replica.end_silent_calls() == int(silent)
        assert call.was_cancelled == silent
    assert replica.in_flight_count == 0
    await replica.close()
