"""The gateway as a process: how it starts, what it serves, how it refuses to start."""

import asyncio
import json
import os
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gateway.server import SERVICES
from internvl.client import ChatClient, user
from tests.support.fakes import FakeLlm, FakeVision, serving


async def start(*flags: str, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "--port", "0", *flags),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )


async def until_logged(process: asyncio.subprocess.Process, message: str) -> dict[str, str]:
    assert process.stderr is not None
    async with asyncio.timeout(20):
        while True:
            text = await process.stderr.readline()
            if text.startswith(b"{"):  # gRPC's core writes lines of its own when a port is taken
                line: dict[str, str] = json.loads(text)
                if line["message"] == message:
                    return line
            assert text, "it ended"


async def test_it_serves_drains_and_ends(vision: FakeVision, llm: FakeLlm) -> None:
    async with serving(vision) as vision_address, serving(llm) as llm_address:
        process = await start("--vision-address", vision_address, "--llm-address", llm_address)
        address = (await until_logged(process, "serving"))["address"]
        await until_logged(process, "backends agree")
        async with ChatClient(address) as client:
            assert [event async for event in client.chat([user("?", b"picture")])]
        assert await served(address) >= {*SERVICES, "grpc.health.v1.Health"}
        process.terminate()
        await until_logged(process, "stopped")
        assert await process.wait() == 0


async def served(address: str) -> set[str]:
    async with grpc.aio.insecure_channel(address) as channel:
        for name in SERVICES:
            check = health_pb2.HealthCheckRequest(service=name)
            answer = await health_pb2_grpc.HealthStub(channel).Check(check)  # type: ignore[attr-defined]
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]
        call = stub.ServerReflectionInfo(iter([ask]))  # type: ignore[operator]
        answers = [answer async for answer in call]
        return {service.name for service in answers[0].list_services_response.service}


async def test_a_variable_nobody_reads_stops_it_in_one_line() -> None:
    process = await start(INTERNVL_GATEWAY_VISION_ADRESS="x")
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert errors.decode() == "internvl-gateway: unknown environment variables: INTERNVL_GATEWAY_VISION_ADRESS\n"


async def test_a_port_that_is_taken_stops_it(gateway: str) -> None:
    process = await start("--port", gateway.rpartition(":")[2])
    line = await until_logged(process, "cannot serve")
    assert line["level"] == "CRITICAL"
    assert await process.wait() == 2
