"""Random bytes and random fields on every public method: a status with a reason, never a hang, never a bug's."""

import asyncio
import random

import grpc
import pytest

from internvl.chat.v1 import chat_pb2
from internvl.client import ChatClient, user
from internvl.common.v1 import visual_pb2
from internvl.errors import Internal, InternvlError, InvalidRequest
from internvl.transport.status import DETAILS_KEY, from_call_error
from tests.support.fakes import FakeLlm
from tests.support.fuzz import random_message

METHODS = {
    "/internvl.chat.v1.ChatService/Chat": "unary_stream",
    "/internvl.chat.v1.ChatService/GetModelInfo": "unary_unary",
    "/internvl.chat.v1.MediaService/Upload": "stream_unary",
}
ANSWERED = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}


async def outcome(channel: grpc.aio.Channel, method: str, *requests: bytes) -> InternvlError | None:
    """How a call with these raw messages ends: an error, or None for an answer."""
    kind = METHODS[method]
    call = getattr(channel, kind)(method)
    try:
        async with asyncio.timeout(10):
            if kind == "unary_stream":
                [event async for event in call(requests[0])]
            else:
                await call(requests[0] if kind == "unary_unary" else iter(requests))
    except grpc.aio.AioRpcError as error:
        failure = error
    else:
        return None
    assert failure.code() in ANSWERED, failure
    assert any(key == DETAILS_KEY for key, _ in failure.trailing_metadata() or ())
    return from_call_error(failure)


@pytest.mark.parametrize("method", METHODS)
async def test_bytes_that_are_no_message(gateway: str, method: str) -> None:
    async with grpc.aio.insecure_channel(gateway) as channel:
        error = await outcome(channel, method, b"\xff\xff\xff\xff")
    assert type(error) is InvalidRequest
    assert "not a message" in error.message


async def test_a_bad_message_in_the_middle_of_an_upload(gateway: str) -> None:
    header = chat_pb2.UploadHeader(kind=chat_pb2.MEDIA_KIND_IMAGE, size_bytes=3)
    async with grpc.aio.insecure_channel(gateway) as channel:
        method = "/internvl.chat.v1.MediaService/Upload"
        first = chat_pb2.UploadRequest(header=header).SerializeToString()
        error = await outcome(channel, method, first, b"\xff\xff\xff\xff")
    assert isinstance(error, InternvlError)
    assert not isinstance(error, Internal)


@pytest.mark.parametrize("method", METHODS)
async def test_random_bytes(gateway: str, method: str) -> None:
    dice = random.Random(1)
    async with grpc.aio.insecure_channel(gateway) as channel:
        for _ in range(100):
            await outcome(channel, method, dice.randbytes(dice.randint(1, 60)))


async def test_random_fields(gateway: str) -> None:
    """Every other chat has a shape that could be answered, so that what is inside is looked at, too."""
    dice = random.Random(2)
    async with grpc.aio.insecure_channel(gateway) as channel:
        answers = 0
        for index in range(400):
            request = random_message(chat_pb2.ChatRequest, dice)
            if index % 2:
                request.ClearField("sampling")
                request.messages.add(role=visual_pb2.ROLE_USER).parts.add(text="?")
            error = await outcome(channel, "/internvl.chat.v1.ChatService/Chat", request.SerializeToString())
            answers += error is None
        for _ in range(100):
            uploads = [random_message(chat_pb2.UploadRequest, dice).SerializeToString() for _ in range(3)]
            await outcome(channel, "/internvl.chat.v1.MediaService/Upload", *uploads)
    assert answers


async def test_a_peer_that_fails_in_its_own_words_is_not_quoted(client: ChatClient, llm: FakeLlm) -> None:
    llm.failures = [Internal("secret words")]
    with pytest.raises(Internal) as caught:
        [event async for event in client.chat([user("?")])]
    assert "secret" not in caught.value.message
    assert caught.value.metadata["error_id"] in caught.value.message
