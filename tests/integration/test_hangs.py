"""A service whose device hangs says so, fails its requests as unavailable, and ends for its supervisor."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.process import Child, ServiceDied
from internvl.common.v1 import sampling_pb2, visual_pb2
from internvl.llm.v1 import llm_pb2, llm_pb2_grpc
from internvl.vision.v1 import vision_pb2, vision_pb2_grpc
from shared.serving.rpc import GAVE_UP
from tests.support.checkpoints import write_random_checkpoint
from tests.support.pictures import file_of

pytestmark = pytest.mark.timeout(300)
PROGRAM = """
import sys, time
from pathlib import Path
from {service} import server
from {module} import {name}

hangs, forward = Path(sys.argv.pop(1)), {name}.forward

def forward_unless_it_hangs(self, *arguments):
    while hangs.exists():
        time.sleep(0.05)
    return forward(self, *arguments)

{name}.forward = forward_unless_it_hangs
server.main()
"""
"""A service whose device hangs while a file exists."""
LLM = PROGRAM.format(service="llm_service", module="llm_service.model.language", name="LanguageModel")
VISION = PROGRAM.format(service="vision_service", module="vision_service.model.tower", name="VisualEncoder")


Serving = tuple[Child, "asyncio.Task[None]", grpc.aio.Channel]


@asynccontextmanager
async def serving(
    program: str, folder: Path, *options: str
) -> AsyncIterator[tuple[Child, "asyncio.Task[None]", grpc.aio.Channel]]:
    """The service, the task that raises when it ends by itself, and a channel to it."""
    write_random_checkpoint(folder / "model")
    arguments = ["--model", str(folder / "model"), "--redis-url", "redis://127.0.0.1:1/0", "--port", "0", *options]
    command = [sys.executable, "-c", program, str(folder / "hangs"), *arguments]
    child = await Child.start("service", command, log_folder=folder)
    watch, ready = asyncio.create_task(child.watch()), asyncio.create_task(child.ready())
    try:
        await asyncio.wait([watch, ready], return_when=asyncio.FIRST_COMPLETED)
        assert child.address, child.last_lines
        async with grpc.aio.insecure_channel(child.address) as channel:
            yield child, watch, channel
    finally:
        ready.cancel()
        await child.stop(1.0)
        with suppress(ServiceDied):
            await watch


async def gives_up(
    child: Child, watch: "asyncio.Task[None]", channel: grpc.aio.Channel, call: Callable[[], Awaitable[Any]]
) -> None:
    """Two calls of a service that hangs fail, its health turns, and it ends with the cause as its last words."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    health = stub.Watch(health_pb2.HealthCheckRequest())
    assert (await health.read()).status == health_pb2.HealthCheckResponse.SERVING
    calls = [asyncio.ensure_future(call()) for _ in range(2)]
    async with asyncio.timeout(120):
        assert (await health.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        results = await asyncio.gather(*calls, return_exceptions=True)
        with pytest.raises(ServiceDied) as died:
            await watch
    assert [isinstance(result, grpc.aio.AioRpcError) and result.code() for result in results] == [
        grpc.StatusCode.UNAVAILABLE
    ] * 2
    assert died.value.exit_code == GAVE_UP
    last = json.loads(child.last_lines[-1])
    assert last["level"] == "CRITICAL"
    assert "has not returned" in last["cause"]


async def test_a_step_that_hangs(tmp_path: Path) -> None:
    async with serving(LLM, tmp_path, "--threads", "1", "--step-seconds", "1") as (child, watch, channel):
        stub = llm_pb2_grpc.LlmServiceStub(channel)
        request = llm_pb2.GenerateRequest(
            tenant="tenant",
            messages=[llm_pb2.Message(role=visual_pb2.ROLE_USER, parts=[llm_pb2.Part(text="tell")])],
            sampling=sampling_pb2.SamplingOptions(max_tokens=5),
        )

        async def call() -> list[llm_pb2.GenerateResponse]:
            return [event async for event in stub.Generate(request)]

        assert (await call())[-1].finished.usage.completion_token_count == 5
        assert (await stub.GetStatus(llm_pb2.GetStatusRequest())).step_age_seconds == 0
        (tmp_path / "hangs").touch()
        await gives_up(child, watch, channel, call)


async def test_a_batch_that_hangs(tmp_path: Path) -> None:
    async with serving(VISION, tmp_path, "--threads", "1", "--batch-seconds", "1") as (child, watch, channel):
        stub = vision_pb2_grpc.VisionServiceStub(channel)
        widths = iter(range(30, 60))

        async def call() -> vision_pb2.EncodeResponse:
            """Encodes an image that is new."""
            return await stub.Encode(vision_pb2.EncodeRequest(tenant="tenant", data=file_of(next(widths), 20)))

        assert not (await call()).cached
        assert (await stub.GetStatus(vision_pb2.GetStatusRequest())).batch_age_seconds == 0
        (tmp_path / "hangs").touch()
        await gives_up(child, watch, channel, call)
