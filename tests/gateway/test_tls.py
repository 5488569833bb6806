"""The gateway between TLS connections: certificates shown both ways, and the names of replicas checked."""

import asyncio
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from internvl.client import ChatClient, TlsFiles, user
from internvl.errors import BackendUnavailable
from tests.gateway.test_server import start
from tests.support.certificates import write_certificate
from tests.support.fakes import FakeLlm, FakeVision, serving
from tests.support.gateway import gateway_serving


@dataclass
class Parties:
    vision: TlsFiles
    llm: TlsFiles
    gateway: TlsFiles
    client: TlsFiles


@pytest.fixture
def parties(tmp_path: Path) -> Parties:
    """Two authorities: one inside, one for the public."""
    inside, public = trustme.CA(), trustme.CA()
    return Parties(
        vision=write_certificate(tmp_path / "vision", inside, "vision"),
        llm=write_certificate(tmp_path / "llm", inside, "llm"),
        gateway=write_certificate(tmp_path / "gateway", inside, "gateway"),
        client=write_certificate(tmp_path / "client", public, "127.0.0.1"),
    )


async def resolved(name: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def dns(name: str, address: str) -> str:
    return f"dns:///{name}:{address.rpartition(':')[2]}"


async def test_a_chat_over_tls_alone(parties: Parties, vision: FakeVision, llm: FakeLlm) -> None:
    async with AsyncExitStack() as stack:
        vision_address = await stack.enter_async_context(serving(vision, tls=parties.vision))
        llm_address = await stack.enter_async_context(serving(llm, tls=parties.llm))
        address = await stack.enter_async_context(
            gateway_serving(
                dns("vision", vision_address),
                dns("llm", llm_address),
                resolve=resolved,
                tls=parties.client,
                peer_tls=parties.gateway,
            )
        )
        async with ChatClient(address, tls=parties.client) as client:
            assert [event async for event in client.chat([user("?", b"picture")])]
        async with ChatClient(address) as client:
            with pytest.raises(BackendUnavailable):
                await client.model_info()


@pytest.mark.parametrize(("name", "shown"), [("other", "gateway"), ("vision", "client")])
async def test_a_replica_of_another_name_or_that_does_not_know_us_is_not_used(
    parties: Parties, vision: FakeVision, llm: FakeLlm, name: str, shown: str
) -> None:
    own = {"gateway": parties.gateway, "client": parties.client}[shown]
    peer_tls = TlsFiles(own.certificate, own.key, parties.vision.authority)
    async with AsyncExitStack() as stack:
        vision_address = await stack.enter_async_context(serving(vision, tls=parties.vision))
        llm_address = await stack.enter_async_context(serving(llm, tls=parties.llm))
        targets = dns(name, vision_address), dns("llm", llm_address)
        address = await stack.enter_async_context(gateway_serving(*targets, resolve=resolved, peer_tls=peer_tls))
        async with ChatClient(address) as client:
            with pytest.raises(BackendUnavailable):
                await client.model_info()
    assert not vision.metadata


async def test_files_that_do_not_belong_together_stop_the_process(parties: Parties) -> None:
    process = await start("--tls-certificate", str(parties.client.certificate), "--tls-key", str(parties.vision.key))
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"are not a certificate chain and its unencrypted key" in errors
    flags = (
        "--peer-ca",
        str(parties.vision.authority),
        "--peer-certificate",
        "nowhere.pem",
        "--peer-key",
        "nowhere.pem",
    )
    process = await start(*flags)
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"TLS: there is no file nowhere.pem" in errors


async def test_health_is_answered_over_tls_to_the_command_line(parties: Parties, vision: FakeVision) -> None:
    async with serving(vision, tls=parties.vision, host="127.0.0.1") as address:
        files = parties.gateway
        flags = ("--tls-ca", files.authority, "--tls-certificate", files.certificate, "--tls-key", files.key)
        assert await health(address, *map(str, flags), "--server-name", "vision") == 0
        assert await health(address, *map(str, flags)) == 1
        assert await health(address) == 1
    assert await health(address) == 1


async def health(address: str, *flags: str) -> int | None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "internvl.cli", "health", address, *flags),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()
