"""Health and pairing: chats are answered while both services are there and agree."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from internvl.client import ChatClient, user
from internvl.errors import BackendUnavailable, InternvlError, ModelMismatch
from tests.support.fakes import FakeLlm, FakeVision, model_info, serving
from tests.support.gateway import gateway_serving

NOWHERE = "127.0.0.1:1"


async def is_healthy(address: str) -> bool:
    async with grpc.aio.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service="internvl.chat.v1.ChatService")
        response = await health_pb2_grpc.HealthStub(channel).Check(request)  # type: ignore[attr-defined]
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


async def until_healthy(address: str, wanted: bool) -> None:
    async with asyncio.timeout(10):
        while await is_healthy(address) is not wanted:  # noqa: ASYNC110 - what we wait for is in a server
            await asyncio.sleep(0.02)


async def chat_error(client: ChatClient) -> InternvlError:
    with pytest.raises(InternvlError) as caught:
        async for _ in client.chat([user("?")]):
            pass
    return caught.value


async def test_healthy_while_both_agree(gateway: str, client: ChatClient) -> None:
    assert await is_healthy(gateway)
    assert (await client.model_info()).model == "InternVL3-test"


async def test_other_checkpoints_are_not_paired(gateway: str, client: ChatClient, vision: FakeVision) -> None:
    vision.info = model_info("0" * 64)
    await until_healthy(gateway, False)
    error = await chat_error(client)
    assert isinstance(error, ModelMismatch)
    assert "fingerprint" in error.message
    vision.info = model_info()
    await until_healthy(gateway, True)


async def test_unavailable_until_both_are_there(vision: FakeVision, llm: FakeLlm) -> None:
    async with (
        serving(vision) as vision_address,
        gateway_serving(vision_address, NOWHERE) as address,
        ChatClient(address) as client,
    ):
        assert not await is_healthy(address)
        error = await chat_error(client)
        assert isinstance(error, BackendUnavailable)
        assert "LLM" in error.message


async def test_a_service_that_comes_back_is_used_again(vision: FakeVision, llm: FakeLlm) -> None:
    async with serving(vision) as vision_address:
        async with serving(llm) as llm_address:
            port = int(llm_address.rpartition(":")[2])
        async with gateway_serving(vision_address, llm_address) as address, ChatClient(address) as client:
            assert not await is_healthy(address)
            async with serving(llm, port):
                await until_healthy(address, True)
                assert [event async for event in client.chat([user("?")])]
            await until_healthy(address, False)
