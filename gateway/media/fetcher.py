"""Images and videos from addresses: what a request names by `uri` becomes bytes before anything else looks at it.

Only where the operator allows hosts. Every address is checked, also those that redirects lead to; every IP address is
checked when it is connected to, so that a name cannot change between check and use; bytes and time are bounded.
"""

import asyncio
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urljoin

import httpcore

from gateway.media.files import MediaKind, too_large
from gateway.media.hosts import MediaAddress, MediaHosts, is_public
from gateway.request_limits import RequestLimits
from gateway.settings import GatewaySettings
from internvl.chat.v1 import chat_pb2
from internvl.errors import BadMessages, InvalidRequest, MediaUnreachable, UriNotAllowed
from internvl.transport.tasks import first_failure

_MAX_REDIRECTS = 3
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_HEADERS = [(b"accept", b"*/*"), (b"accept-encoding", b"identity"), (b"user-agent", b"internvl-gateway")]


class Fetcher:
    """Open while its context lasts; connections are kept for the next image from there."""

    def __init__(self, hosts: MediaHosts, *, seconds: float, allow_private: bool) -> None:
        self._hosts = hosts
        self._seconds = seconds
        self._pool = httpcore.AsyncConnectionPool(
            network_backend=_GuardedNetwork(allow_private=allow_private), max_connections=64, keepalive_expiry=30.0
        )

    @classmethod
    def from_settings(cls, settings: GatewaySettings) -> Self:
        """Raises ValueError."""
        hosts = MediaHosts.parse(settings.media_hosts)
        return cls(hosts, seconds=settings.media_fetch_seconds, allow_private=settings.media_private_addresses)

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self._pool.__aexit__(kind, error, trace)

    async def filled(self, request: chat_pb2.ChatRequest, limits: RequestLimits) -> chat_pb2.ChatRequest:
        """The request with bytes in place of addresses; the same object where there are none.

        Equal addresses are fetched once. Raises UriNotAllowed, MediaUnreachable, ImageTooLarge, VideoTooLarge with the
        field at fault.
        """
        if not any(True for _ in _sources(request)):
            return request
        filled = chat_pb2.ChatRequest()
        filled.CopyFrom(request)
        sources = list(_sources(filled))
        if len(sources) > limits.media_count:
            raise BadMessages(f"{len(sources)} media, at most {limits.media_count} are allowed", field="messages")
        budget = _Budget(limits.inline_media_bytes)
        try:
            async with asyncio.TaskGroup() as group:
                tasks: dict[str, asyncio.Task[bytes]] = {}
                for source in sources:
                    if source.uri not in tasks:
                        tasks[source.uri] = group.create_task(self._fetch_source(source, budget))
        except* InvalidRequest as failures:
            raise first_failure(failures) from None
        for source in sources:
            source.fill(tasks[source.uri].result())
        return filled

    async def _fetch_source(self, source: "_Source", budget: "_Budget") -> bytes:
        try:
            return await self._fetch(source.uri, budget)
        except InvalidRequest as error:
            raise error.at(source.field) from error.__cause__
        except _OverBudget:
            raise too_large(source.kind, budget.max_bytes, source.field) from None

    async def _fetch(self, uri: str, budget: "_Budget") -> bytes:
        try:
            async with asyncio.timeout(self._seconds):
                for _ in range(_MAX_REDIRECTS + 1):
                    found = await self._ask(self._hosts.admit(uri), budget)
                    if isinstance(found, bytes):
                        return found
                    uri = urljoin(uri, found.location)
        except TimeoutError:
            raise MediaUnreachable(f"the file was not there within {self._seconds:g} seconds") from None
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
            raise MediaUnreachable("the address does not answer as it should") from None
        raise MediaUnreachable(f"more than {_MAX_REDIRECTS} redirects")

    async def _ask(self, address: MediaAddress, budget: "_Budget") -> "bytes | _Redirect":
        url = httpcore.URL(
            scheme=address.scheme.encode(),
            host=address.host.encode(),
            port=address.port,
            target=address.target.encode(),
        )
        async with self._pool.stream("GET", url, headers=[(b"host", _authority(address)), *_HEADERS]) as response:
            headers = {name.lower(): value for name, value in response.headers}
            if response.status in _REDIRECTS and b"location" in headers:
                return _Redirect(headers[b"location"].decode("latin-1"))
            if response.status != 200:
                raise MediaUnreachable(f"the address answers with status {response.status}")
            if headers.get(b"content-encoding", b"identity") != b"identity":
                raise MediaUnreachable("the address sends the file with an encoding that was not asked for")
            pieces = []
            async for piece in response.aiter_stream():
                budget.spend(len(piece))
                pieces.append(piece)
            return b"".join(pieces)


class _Redirect:
    def __init__(self, location: str) -> None:
        self.location = location


class _OverBudget(Exception):
    """All files of a request together are too large."""


class _Budget:
    """Bytes that the files of one request may have together."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._left = max_bytes

    def spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise _OverBudget


class _Source:
    """A image or video of a request that is named by its address."""

    def __init__(self, medium: chat_pb2.Image | chat_pb2.Video, kind: MediaKind, path: str) -> None:
        self._medium = medium
        self.kind = kind
        self.uri = medium.uri
        self.field = f"{path}.uri"

    def fill(self, data: bytes) -> None:
        self._medium.data = data


class _GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to what a name resolves to now, if that is a public address."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from None
        addresses = [str(place[4][0]) for place in found]
        if not self._allow_private and not all(map(is_public, addresses)):
            raise UriNotAllowed("the name leads to an address that is not public")
        for address in addresses[:-1]:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
        return await self._network.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)

    async def connect_unix_socket(self, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("no unix sockets")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _sources(request: chat_pb2.ChatRequest) -> Iterator[_Source]:
    for index, message in enumerate(request.messages):
        for place, part in enumerate(message.parts):
            path = f"messages[{index}].parts[{place}]"
            if part.image.HasField("uri"):
                yield _Source(part.image, MediaKind.IMAGE, f"{path}.image")
            elif part.video.HasField("uri"):
                yield _Source(part.video, MediaKind.VIDEO, f"{path}.video")
            for number, image in enumerate(part.combined.images):
                if image.HasField("uri"):
                    yield _Source(image, MediaKind.IMAGE, f"{path}.combined.images[{number}]")


def _authority(address: MediaAddress) -> bytes:
    default = {"https": 443, "http": 80}[address.scheme]
    return (address.host if address.port == default else f"{address.host}:{address.port}").encode()
