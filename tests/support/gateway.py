"""A gateway on loopback in front of fake services."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.media.fetcher import Fetcher
from gateway.openai_api.server import http_server
from gateway.replicas.backends import Backends
from gateway.replicas.discovery import Resolve, resolve
from gateway.server import SERVICES, add_servicers
from gateway.settings import GatewaySettings
from gateway.tenancy.admission import Admission
from gateway.tenancy.tenants import Tenants
from internvl.client import ChatClient
from internvl.transport.tls import TlsFiles
from shared.serving.rpc import Server
from tests.support.fakes import FakeLlm, FakeVision, peer_settings, serving, tls_settings


@dataclass(frozen=True)
class Served:
    """Where a gateway listens."""

    grpc: str
    http: str
    stopping: asyncio.Event


@asynccontextmanager
async def gateway_with(settings: GatewaySettings, resolve: Resolve = resolve) -> AsyncIterator[Served]:
    """Both doors of a gateway that knows its services."""
    server = Server(settings)
    async with Backends(settings, resolve=resolve) as backends, Fetcher.from_settings(settings) as fetcher:
        admission, tenants = Admission(settings.max_concurrent_requests), Tenants.from_settings(settings)
        api = add_servicers(server, backends, admission, tenants, fetcher, settings)
        changed = asyncio.Event()

        async def on_change(healthy: bool) -> None:
            await server.set_serving(SERVICES, serving=healthy)
            changed.set()

        watch = asyncio.create_task(backends.watch(on_change))
        await server.grpc.start()
        await changed.wait()
        try:
            async with http_server(api.app(), settings, server.stopping) as http_port:
                yield Served(f"127.0.0.1:{server.port}", f"127.0.0.1:{http_port}", server.stopping)
        finally:
            watch.cancel()
            await server.grpc.stop(0)


def gateway_settings(vision_address: str, llm_address: str, **more: Any) -> GatewaySettings:
    """Quick to look for its services, and with small limits."""
    small: dict[str, Any] = {
        "max_concurrent_requests": 4,
        "max_inline_media_bytes": 1 << 20,
        "max_upload_bytes": 8 << 20,
        "http_metrics": True,
    }
    return GatewaySettings(
        port=0,
        vision_address=vision_address,
        llm_address=llm_address,
        backend_check_seconds=0.05,
        resolve_seconds=0.05,
        **(small | more),
    )


@asynccontextmanager
async def gateway_serving(
    vision_address: str,
    llm_address: str,
    *,
    max_concurrent_requests: int = 4,
    resolve: Resolve = resolve,
    key_file: Path | None = None,
    tls: TlsFiles | None = None,
    peer_tls: TlsFiles | None = None,
) -> AsyncIterator[str]:
    settings = gateway_settings(
        vision_address,
        llm_address,
        max_concurrent_requests=max_concurrent_requests,
        key_file=key_file,
        **tls_settings(tls),
        **peer_settings(peer_tls),
    )
    async with gateway_with(settings, resolve) as served:
        yield served.grpc


@pytest.fixture
async def vision() -> FakeVision:
    return FakeVision()


@pytest.fixture
async def llm() -> FakeLlm:
    return FakeLlm()


@pytest.fixture
async def gateway(vision: FakeVision, llm: FakeLlm) -> AsyncIterator[str]:
    """Its address."""
    async with (
        serving(vision) as vision_address,
        serving(llm) as llm_address,
        gateway_serving(vision_address, llm_address) as address,
    ):
        yield address


@pytest.fixture
async def client(gateway: str) -> AsyncIterator[ChatClient]:
    async with ChatClient(gateway) as client:
        yield client
