"""The server that all services share, over real gRPC on loopback."""

import asyncio
import json
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from internvl.chat.v1 import chat_pb2, chat_pb2_grpc
from internvl.errors import BadOption, DeadlineExceeded, Internal, InternvlError, QueueFull
from internvl.transport.channel import open_channel
from internvl.transport.status import from_call_error
from shared.serving.rpc import Server
from shared.serving.settings import ServiceSettings

Context = grpc.aio.ServicerContext[Any, Any]
SERVICE = "internvl.chat.v1.ChatService"
SECRET = "/secret/path at 0x7fffdeadbeef"


class LoopbackSettings(ServiceSettings):
    service: ClassVar[str] = "test"
    port: int = 0
    drain_seconds: float = 5.0
    max_message_bytes: int = 1 << 20


class Raising(chat_pb2_grpc.ChatServiceServicer):
    """Raises what it is told to, before or after the first event."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.reached = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def GetModelInfo(  # noqa: N802
        self, request: chat_pb2.GetModelInfoRequest, context: Context
    ) -> chat_pb2.GetModelInfoResponse:
        if self.error is not None:
            raise self.error
        return chat_pb2.GetModelInfoResponse()

    async def Chat(self, request: chat_pb2.ChatRequest, context: Context) -> AsyncIterator[chat_pb2.ChatResponse]:  # noqa: N802
        yield chat_pb2.ChatResponse(delta=chat_pb2.Delta(text="first"))
        self.reached.set()
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if self.error is not None:
            raise self.error
        yield chat_pb2.ChatResponse(delta=chat_pb2.Delta(text="last"))


@pytest.fixture
async def servicer() -> Raising:
    return Raising()


@pytest.fixture
async def server(servicer: Raising) -> Server:
    server = Server(LoopbackSettings())
    chat_pb2_grpc.add_ChatServiceServicer_to_server(servicer, server.grpc)
    return server


@pytest.fixture
async def channel(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    await server.grpc.start()
    async with open_channel(f"127.0.0.1:{server.port}", max_message_bytes=1 << 20) as channel:
        yield channel
    await server.grpc.stop(0)


HANGING_CLIENT = """
import asyncio, os, signal, sys
from internvl.chat.v1 import chat_pb2, chat_pb2_grpc
from internvl.transport.channel import open_channel

async def main():
    async with open_channel(sys.argv[1], max_message_bytes=1 << 20) as channel:
        async for _ in chat_pb2_grpc.ChatServiceStub(channel).Chat(chat_pb2.ChatRequest()):
            os.kill(os.getpid(), signal.SIGSTOP)

asyncio.run(main())
"""


async def test_the_calls_of_a_client_that_hangs_end(servicer: Raising) -> None:
    """Stopped, not ended: its connection stays open, and only a ping tells."""
    server = Server(LoopbackSettings(keepalive_seconds=1.0, keepalive_timeout_seconds=1.0))
    chat_pb2_grpc.add_ChatServiceServicer_to_server(servicer, server.grpc)
    servicer.gate = asyncio.Event()
    await server.grpc.start()
    client = await asyncio.create_subprocess_exec(sys.executable, "-c", HANGING_CLIENT, f"127.0.0.1:{server.port}")
    try:
        async with asyncio.timeout(60):
            await servicer.cancelled.wait()
    finally:
        client.kill()
        await client.wait()
        await server.grpc.stop(0)


@pytest.mark.parametrize("named", [None, 30.0])
async def test_a_call_without_a_deadline_has_the_servers(servicer: Raising, named: float | None) -> None:
    server = Server(LoopbackSettings(default_deadline_seconds=0.5))
    chat_pb2_grpc.add_ChatServiceServicer_to_server(servicer, server.grpc)
    servicer.gate = asyncio.Event()
    await server.grpc.start()
    async with open_channel(f"127.0.0.1:{server.port}", max_message_bytes=1 << 20) as channel:
        events = aiter(chat_pb2_grpc.ChatServiceStub(channel).Chat(chat_pb2.ChatRequest(), timeout=named))
        assert (await anext(events)).delta.text == "first"
        if named is None:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asyncio.wait_for(anext(events), 30)
            error = from_call_error(caught.value)
            assert isinstance(error, DeadlineExceeded)
            assert "0.5 s" in error.message
            assert servicer.cancelled.is_set()
        else:
            await asyncio.sleep(1.0)
            servicer.gate.set()
            assert (await anext(events)).delta.text == "last"
    await server.grpc.stop(0)


async def unary_error(channel: grpc.aio.Channel) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await chat_pb2_grpc.ChatServiceStub(channel).GetModelInfo(chat_pb2.GetModelInfoRequest())
    return caught.value


async def texts(channel: grpc.aio.Channel) -> Sequence[str]:
    call = chat_pb2_grpc.ChatServiceStub(channel).Chat(chat_pb2.ChatRequest())
    return [event.delta.text async for event in call]


@pytest.mark.parametrize(
    "error",
    [
        BadOption("too large", field="sampling.top_p", metadata={"limit": "1"}),
        QueueFull("no room", retry_after_seconds=2.5),
    ],
)
async def test_our_errors_arrive_whole(channel: grpc.aio.Channel, servicer: Raising, error: InternvlError) -> None:
    servicer.error = error
    restored = from_call_error(await unary_error(channel))
    assert type(restored) is type(error)
    assert (restored.message, restored.field, restored.metadata) == (error.message, error.field, error.metadata)
    assert restored.retry_after_seconds == error.retry_after_seconds


async def test_an_uncaught_exception_gives_an_error_id_and_no_internals(
    channel: grpc.aio.Channel, servicer: Raising, caplog: pytest.LogCaptureFixture
) -> None:
    servicer.error = RuntimeError(SECRET)
    raw = await unary_error(channel)
    restored = from_call_error(raw)
    assert raw.code() is grpc.StatusCode.INTERNAL
    assert isinstance(restored, Internal)
    error_id = restored.metadata["error_id"]
    assert restored.message == f"internal error {error_id}"
    assert SECRET not in repr(raw) + repr(raw.trailing_metadata())
    (logged,) = [record for record in caplog.records if record.message == "uncaught"]
    assert vars(logged)["error_id"] == error_id
    assert logged.exc_info is not None
    assert SECRET in str(logged.exc_info[1])


async def test_a_stream_that_fails_late_ends_with_the_status(channel: grpc.aio.Channel, servicer: Raising) -> None:
    servicer.error = RuntimeError(SECRET)
    call = chat_pb2_grpc.ChatServiceStub(channel).Chat(chat_pb2.ChatRequest())
    events = aiter(call)
    assert (await anext(events)).delta.text == "first"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await anext(events)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert SECRET not in repr(caught.value)


@pytest.mark.parametrize(("offered", "expected"), [("abc", "abc"), ("x" * 200, None), (None, None)])
async def test_the_request_id_is_returned(channel: grpc.aio.Channel, offered: str | None, expected: str | None) -> None:
    metadata = (("x-request-id", offered),) if offered else None
    call = chat_pb2_grpc.ChatServiceStub(channel).GetModelInfo(chat_pb2.GetModelInfoRequest(), metadata=metadata)
    await call
    returned = dict(await call.initial_metadata())["x-request-id"]
    assert returned == expected or (expected is None and len(returned) == 32)


async def test_messages_over_the_limit_are_refused(channel: grpc.aio.Channel) -> None:
    part = chat_pb2.Part(text="x" * (1 << 20))
    request = chat_pb2.ChatRequest(messages=[chat_pb2.Message(parts=[part])])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in chat_pb2_grpc.ChatServiceStub(channel).Chat(request):
            pass
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_drain_lets_calls_in_flight_end(server: Server, servicer: Raising) -> None:
    servicer.gate = asyncio.Event()
    running = asyncio.create_task(server.run(SERVICE))
    async with open_channel(f"127.0.0.1:{server.port}", max_message_bytes=1 << 20) as channel:
        in_flight = asyncio.create_task(texts(channel))
        await servicer.reached.wait()
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))  # type: ignore[attr-defined]
        states = aiter(watch)
        assert (await anext(states)).status == health_pb2.HealthCheckResponse.SERVING
        os.kill(os.getpid(), signal.SIGTERM)
        assert (await anext(states)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        async with open_channel(f"127.0.0.1:{server.port}", max_message_bytes=1 << 20) as late:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await texts(late)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not in_flight.done()
        servicer.gate.set()
        assert await in_flight == ["first", "last"]
    await running


async def test_health_waits_until_it_is_said(server: Server) -> None:
    running = asyncio.create_task(server.run(SERVICE, healthy=False))
    async with open_channel(f"127.0.0.1:{server.port}", max_message_bytes=1 << 20) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(  # type: ignore[attr-defined]
            health_pb2.HealthCheckRequest(service=SERVICE), wait_for_ready=True
        )
        states = aiter(watch)
        assert (await anext(states)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await server.set_serving([SERVICE], serving=True)
        assert (await anext(states)).status == health_pb2.HealthCheckResponse.SERVING
        os.kill(os.getpid(), signal.SIGTERM)
        assert (await anext(states)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
    await running


async def test_a_port_that_is_taken_is_an_error(server: Server, channel: grpc.aio.Channel) -> None:
    with pytest.raises(RuntimeError):
        Server(LoopbackSettings(port=server.port))


async def test_the_real_port_is_logged() -> None:
    program = textwrap.dedent("""
        import asyncio
        from shared.serving.rpc import Server
        from shared.serving.telemetry import configure_logging
        from tests.support.fakes import LoopbackSettings
        async def main():
            configure_logging("test", "info")
            await Server(LoopbackSettings()).run()
        asyncio.run(main())
    """)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    line = json.loads(await process.stderr.readline())
    assert line["message"] == "serving"
    assert int(line["address"].rpartition(":")[2]) > 0
    process.terminate()
    await process.communicate()
    assert process.returncode == 0
