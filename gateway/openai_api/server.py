"""The HTTP server of the endpoint, in the event loop of the gRPC server, with its host, its TLS files and its drain."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette

from gateway.settings import GatewaySettings
from internvl.transport.tls import TlsFiles
from shared.serving.file_watch import FileWatch

log = logging.getLogger(__name__)
_RENEW_SECONDS = 10.0


@asynccontextmanager
async def http_server(app: Starlette, settings: GatewaySettings, stopping: asyncio.Event) -> AsyncIterator[int | None]:
    """Serves `app` while the context lasts; yields the port, or None where settings have none.

    Drains from the moment that `stopping` is set. Raises OSError when the port is taken.
    """
    if settings.http_port is None:
        yield None
        return
    with _listening(settings.host, settings.http_port) as listener:
        server = _Server(_config(app, settings))
        port = int(listener.getsockname()[1])
        serving = asyncio.create_task(server.serve([listener]))
        serving.add_done_callback(lambda _: stopping.set())  # if HTTP stops, stop gRPC as well
        watches = [asyncio.create_task(_drain(server, stopping))]
        if settings.tls_files is not None:
            watches.append(asyncio.create_task(_renew(server.config, settings.tls_files)))
        log.info("serving http", extra={"address": f"{settings.host}:{port}"})
        try:
            yield port
        finally:
            for watch in watches:
                watch.cancel()
            server.should_exit = True
            await serving


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to the gateway."""
        yield


async def _drain(server: uvicorn.Server, stopping: asyncio.Event) -> None:
    await stopping.wait()
    server.should_exit = True


async def _renew(config: uvicorn.Config, files: TlsFiles) -> None:
    """New connections get new certificates soon after the files changed."""

    def load() -> None:
        files.check()
        if config.ssl is not None:
            config.ssl.load_cert_chain(str(files.certificate), str(files.key))

    watch = FileWatch("TLS files of the HTTP port", files.paths, load)
    while True:
        await asyncio.sleep(_RENEW_SECONDS)
        watch.reread()


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named: asyncio sends small pieces at once only on sockets that say they are TCP's.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
        yield listener


def _config(app: Starlette, settings: GatewaySettings) -> uvicorn.Config:
    files = settings.tls_files
    return uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.http_keep_alive_seconds,
        timeout_graceful_shutdown=max(1, int(settings.drain_seconds)),
        ssl_certfile=None if files is None else files.certificate,
        ssl_keyfile=None if files is None else files.key,
        ssl_ca_certs=None if files is None or files.authority is None else str(files.authority),
        ssl_cert_reqs=ssl.CERT_NONE if files is None or files.authority is None else ssl.CERT_REQUIRED,
    )
