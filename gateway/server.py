"""Puts the gateway together and runs it."""

import asyncio

from gateway.admission import Admission
from gateway.backends import Backends
from gateway.chat import Chat
from gateway.limits import RequestLimits
from gateway.servicer import ChatServicer, MediaServicer
from gateway.settings import GatewaySettings
from shared.pb.internvl.chat.v1 import chat_pb2_grpc
from shared.rpc import Server
from shared.service import run_service

SERVICES = ("internvl.chat.v1.ChatService", "internvl.chat.v1.MediaService")


def main() -> None:
    """The command `internvl-gateway`."""
    run_service(GatewaySettings, serve)


async def serve(settings: GatewaySettings) -> None:
    """Serves until told to stop; healthy while both services behind it are there and agree."""
    server = Server(settings)
    async with Backends(settings) as backends:
        add_servicers(server, backends, settings)
        watch = asyncio.create_task(backends.watch(lambda serving: server.set_serving(SERVICES, serving=serving)))
        try:
            await server.run(*SERVICES, healthy=False)
        finally:
            watch.cancel()


def add_servicers(server: Server, backends: Backends, settings: GatewaySettings) -> None:
    """Registers both services."""
    chat = Chat(backends, RequestLimits.from_settings(settings))
    tenant = settings.default_tenant
    servicer = ChatServicer(chat, backends, Admission(settings.max_concurrent_requests), tenant=tenant)
    media = MediaServicer(backends, tenant=tenant, max_bytes=settings.max_upload_bytes)
    chat_pb2_grpc.add_ChatServiceServicer_to_server(servicer, server.grpc)
    chat_pb2_grpc.add_MediaServiceServicer_to_server(media, server.grpc)
