"""One HTTP request and its answer: the ASGI messages, read within bounds and answered once.

async with exchange.while_connected():
    ... work that stops when the client goes ...
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from gateway.openai_api.failures import HttpRefusal

_BODY_SECONDS = 60.0
"""How long a body may take to arrive."""
_READ_SECONDS = 60.0
"""How long a client may leave a stream unread."""


class ClientGone(Exception):
    """The client disconnected."""


class Exchange:
    """A request that is being answered."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers = Headers(scope=scope)
        self.path: str = scope["path"]
        self._receive = receive
        self._send = send

    def body_bytes(self, max_bytes: int) -> int:
        """Length of the body, as its header says. Raises HttpRefusal."""
        length = self.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()):
            raise HttpRefusal(411, "length_required", "the request needs a content-length")
        if len(length) > 18 or int(length) > max_bytes:
            raise HttpRefusal(413, "request_too_large", f"more than {max_bytes} bytes")
        return int(length)

    async def body(self, size_bytes: int) -> bytes:
        """All of it. Raises HttpRefusal when it is late or longer than it said, ClientGone when it ends early."""
        pieces: list[bytes] = []
        received = 0
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while True:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    pieces.append(message.get("body", b""))
                    received += len(pieces[-1])
                    if received > size_bytes:
                        raise HttpRefusal(413, "request_too_large", "the body is longer than its content-length")
                    if not message.get("more_body", False):
                        return b"".join(pieces)
        except TimeoutError:
            raise HttpRefusal(408, "request_timeout", f"the body took over {_BODY_SECONDS:g} seconds") from None

    @asynccontextmanager
    async def while_connected(self) -> AsyncIterator[None]:
        """Stops what runs in the context when the client goes; raises ClientGone then. After the body was read."""
        task = asyncio.current_task()
        assert task is not None
        is_gone = False

        async def watch() -> None:
            nonlocal is_gone
            while (await self._receive())["type"] != "http.disconnect":
                pass
            is_gone = True
            task.cancel()

        watcher = asyncio.create_task(watch())
        try:
            yield
        except asyncio.CancelledError:
            if is_gone and task.uncancel() == 0:
                raise ClientGone from None
            raise
        finally:
            watcher.cancel()

    async def answer(self, content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] = {}) -> None:
        """A JSON object, whole."""
        body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        await self.answer_bytes(body, {"content-type": "application/json", **headers}, status)

    async def answer_bytes(self, body: bytes, headers: Mapping[str, str], status: int = 200) -> None:
        """Anything, whole."""
        await self._start(status, {"content-length": str(len(body)), **headers})
        await self._send({"type": "http.response.body", "body": body})

    async def start_stream(self) -> None:
        """Server-sent events from here on."""
        await self._start(200, {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"})

    async def stream(self, piece: bytes) -> None:
        """More of them. Raises ClientGone when the client has read nothing for long."""
        try:
            async with asyncio.timeout(_READ_SECONDS):
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        except TimeoutError:
            raise ClientGone from None

    async def end_stream(self) -> None:
        """No more."""
        await self._send({"type": "http.response.body", "body": b""})

    async def _start(self, status: int, headers: Mapping[str, str]) -> None:
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})
