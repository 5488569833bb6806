"""Puts the gateway together and runs it."""

import asyncio

from gateway.chat import Chat
from gateway.media.fetcher import Fetcher
from gateway.metrics import GatewayCollector
from gateway.openai_api.app import OpenAiApi
from gateway.openai_api.server import http_server
from gateway.replicas.backends import Backends
from gateway.request_limits import RequestLimits
from gateway.servicer import ChatServicer, MediaServicer
from gateway.settings import GatewaySettings
from gateway.tenancy.admission import Admission
from gateway.tenancy.tenants import Tenants
from internvl.chat.v1 import chat_pb2_grpc
from shared.serving.metrics import collected
from shared.serving.rpc import Server
from shared.serving.service import run_service

SERVICES = ("internvl.chat.v1.ChatService", "internvl.chat.v1.MediaService")


def main() -> None:
    """Runs the service until it is stopped."""
    run_service(GatewaySettings, serve)


async def serve(settings: GatewaySettings) -> None:
    """Serves until told to stop; healthy while both services behind it are there and agree."""
    tenants = Tenants.from_settings(settings)
    server = Server(settings)
    admission = Admission(settings.max_concurrent_requests)
    async with Backends(settings) as backends, Fetcher.from_settings(settings) as fetcher:
        api = add_servicers(server, backends, admission, tenants, fetcher, settings)
        watches = [
            asyncio.create_task(backends.watch(lambda serving: server.set_serving(SERVICES, serving=serving))),
            asyncio.create_task(tenants.watch(settings.key_file_check_seconds)),
        ]
        try:
            with collected(GatewayCollector(lambda: admission.running, backends.usable_counts)):
                async with http_server(api.app(), settings, server.stopping):
                    await server.run(*SERVICES, healthy=False)
        finally:
            for watch in watches:
                watch.cancel()


def add_servicers(
    server: Server,
    backends: Backends,
    admission: Admission,
    tenants: Tenants,
    fetcher: Fetcher,
    settings: GatewaySettings,
) -> OpenAiApi:
    """Registers both services; returns the same chat for HTTP."""
    chat = Chat(backends, RequestLimits.from_settings(settings), fetcher)
    servicer = ChatServicer(chat, backends, admission, tenants)
    media = MediaServicer(backends, admission, tenants, max_bytes=settings.max_upload_bytes)
    chat_pb2_grpc.add_ChatServiceServicer_to_server(servicer, server.grpc)
    chat_pb2_grpc.add_MediaServiceServicer_to_server(media, server.grpc)
    return OpenAiApi(chat, backends, admission, tenants, settings)
