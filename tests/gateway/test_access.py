"""Keys over gRPC: every call needs one, limits answer with when to come again, and no log holds a key."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from gateway.server import SERVICES
from gateway.tenancy.key_file import key_digest
from internvl.chat.v1 import chat_pb2
from internvl.client import ChatClient, Event, user
from internvl.errors import (
    InternvlError,
    KeyMissing,
    KeyUnknown,
    PermissionDenied,
    RateLimited,
    RequestTooLarge,
    Unauthenticated,
)
from internvl.transport.status import from_call_error
from shared.content import content_digest, media_id
from tests.support.fakes import FakeLlm, FakeVision, serving
from tests.support.gateway import gateway_serving

ONE, OTHER, NARROW, SUSPENDED = ("ivl_of_one", "ivl_of_other", "ivl_of_narrow", "ivl_of_suspended")
LIMITS = {
    "narrow": "concurrent_requests = 1\ntokens_per_minute = 5\nbytes_in_flight = 1000",
    "suspended": "suspended = true",
}


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    names = {"one": ONE, "other": OTHER, "narrow": NARROW, "suspended": SUSPENDED}
    tenants = "".join(f"[tenants.{name}]\n{LIMITS.get(name, '')}\n" for name in names)
    keys = "".join(f'{key_digest(key)} = "{name}"\n' for name, key in names.items())
    path.write_text(f"{tenants}[keys]\n{keys}")
    return path


@pytest.fixture
async def address(vision: FakeVision, llm: FakeLlm, key_file: Path) -> AsyncIterator[str]:
    async with (
        serving(vision) as vision_address,
        serving(llm) as llm_address,
        gateway_serving(vision_address, llm_address, key_file=key_file) as address,
    ):
        yield address


async def say(address: str, key: str | None, *parts: str | bytes) -> list[Event]:
    async with ChatClient(address, api_key=key) as client:
        return [event async for event in client.chat([user(*parts)])]


def methods() -> list[tuple[str, bool]]:
    """Every call of every public service, and whether the client streams: read from the contract."""
    services = chat_pb2.DESCRIPTOR.services_by_name.values()
    assert {service.full_name for service in services} == set(SERVICES)
    return [
        (f"/{service.full_name}/{method.name}", method.client_streaming)
        for service in services
        for method in service.methods
    ]


async def call(address: str, path: str, streams: bool, metadata: tuple[tuple[str, str], ...]) -> None:
    """An empty request."""
    async with grpc.aio.insecure_channel(address) as channel:
        if streams:
            upload: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(path)
            await upload(iter([b""]), metadata=metadata)
        else:
            ask: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(path)
            async for _ in ask(b"", metadata=metadata):
                pytest.fail("it was answered")


@pytest.mark.parametrize(("path", "streams"), methods())
@pytest.mark.parametrize("header", [None, "Bearer ivl_nobodys", f"Bearer {SUSPENDED}", "Basic b25lOg=="])
async def test_no_call_is_answered_without_a_key(address: str, path: str, streams: bool, header: str | None) -> None:
    metadata = () if header is None else (("authorization", header),)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(address, path, streams, metadata)
    error = from_call_error(caught.value)
    assert isinstance(error, PermissionDenied if header == f"Bearer {SUSPENDED}" else Unauthenticated)


async def test_a_request_is_its_tenants_in_both_services(address: str, vision: FakeVision, llm: FakeLlm) -> None:
    await say(address, ONE, b"picture")
    await say(address, OTHER, b"picture")
    async with ChatClient(address, api_key=OTHER) as client:
        identifier = await client.upload(b"file")
    assert [request.tenant for request in vision.encodes] == ["one", "other"]
    assert [request.tenant for request in llm.requests] == ["one", "other"]
    assert identifier == media_id("other", content_digest(b"file"))


async def test_an_unknown_key_and_none_are_told_apart(address: str) -> None:
    with pytest.raises(KeyMissing):
        await say(address, None, "?")
    with pytest.raises(KeyUnknown):
        await say(address, "ivl_nobodys", "?")


async def test_one_tenants_limits_are_not_anothers(address: str, llm: FakeLlm) -> None:
    llm.gate = asyncio.Event()
    first = asyncio.create_task(say(address, NARROW, "?"))
    await llm.reached.wait()
    with pytest.raises(RateLimited) as caught:
        await say(address, NARROW, "?")
    assert caught.value.metadata == {"limit": "concurrent_requests"}
    assert caught.value.retry_after_seconds is not None
    gate, llm.gate = llm.gate, None
    assert await say(address, ONE, "?")
    gate.set()
    await first
    with pytest.raises(RateLimited) as caught:
        await say(address, NARROW, "?")
    assert caught.value.metadata == {"limit": "tokens_per_minute"}, "the first reply took more than 5 tokens"


async def test_bytes_count_for_chats_and_uploads(address: str) -> None:
    with pytest.raises(RequestTooLarge):
        await say(address, NARROW, bytes(1001))
    async with ChatClient(address, api_key=NARROW) as client:
        with pytest.raises(RequestTooLarge):
            await client.upload(bytes(1001))
        assert await client.upload(bytes(999))


async def refusal(address: str, key: str) -> str:
    """What a request is told; "" when it is answered."""
    try:
        await say(address, key, "?", b"picture")
    except InternvlError as error:
        return str(error)
    return ""


async def test_no_log_of_a_run_holds_a_key(vision: FakeVision, llm: FakeLlm, key_file: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with serving(vision) as vision_address, serving(llm) as llm_address:
        flags = ("--vision-address", vision_address, "--llm-address", llm_address, "--key-file", str(key_file))
        with log.open("wb") as stream:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway", "--port", "0", "--log-level", "debug", *flags), stderr=stream
            )
        address = json.loads(await logged(log, '"serving"'))["address"]
        await logged(log, "backends agree")
        told = [await refusal(address, key) for key in (ONE, NARROW, NARROW, SUSPENDED, "ivl_nobodys")]
        await asyncio.to_thread(key_file.write_text, f'[keys]\n{ONE} = "one"')
        await logged(log, "key file rejected")
        process.terminate()
        await process.wait()
    assert told[0] == ""
    assert all(told[2:])
    assert "ivl_" not in "".join(told) + log.read_text()
    assert "Bearer" not in log.read_text()


async def logged(log: Path, text: str) -> str:
    """The first line that holds `text`, as soon as there is one."""
    async with asyncio.timeout(20):
        while True:
            for line in (await asyncio.to_thread(log.read_text)).splitlines(keepends=True):
                if text in line and line.endswith("\n"):
                    return line
            await asyncio.sleep(0.02)
