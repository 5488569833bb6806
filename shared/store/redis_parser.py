"""A reply of Redis straight from the socket into the memory that its reader keeps.

redis-py's own parser copies a large value three times before anyone sees it: from the socket into bytes, from there
into the stream's buffer, out of it again. This one hands the socket a buffer of the value's size
(asyncio.BufferedProtocol), so that the kernel's copy is the only one. It plugs into redis-py's connections, which still
do all the rest: TLS, users, sentinels, retries. Speaks RESP2 only.

    parser_class=DirectParser, protocol=2

Lengths are checked before memory is taken: a peer that talks nonsense costs a connection, not the process.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from redis._parsers import BaseParser
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse

Reply = None | int | bytes | bytearray | Exception | list["Reply"]

_SCRATCH_BYTES = 16 << 10
_SMALL_BYTES = 4 << 10
MAX_VALUE_BYTES = 64 << 20
_MAX_ITEMS = 1 << 16
_MAX_DEPTH = 8


class DirectParser(BaseParser):
    """Values from 4 KiB on are bytearrays, smaller ones and status lines bytes."""

    def __init__(self, socket_read_size: int) -> None:
        self._incoming: _Incoming | None = None

    def on_connect(self, connection: AbstractConnection) -> None:
        """Takes over the reading half of a connection that has just been made."""
        writer = connection._writer
        assert writer is not None
        transport = cast("asyncio.Transport", writer.transport)
        self._incoming = _Incoming(transport, cast("asyncio.Protocol", transport.get_protocol()))
        transport.set_protocol(self._incoming)

    def on_disconnect(self) -> None:
        self._incoming = None

    async def can_read(self) -> bool:
        """Whether an unexpected reply is pending: the connection is then not used again."""
        return self._connected().is_dirty

    async def can_read_destructive(self) -> bool:
        return await self.can_read()

    async def read_response(self, disable_decoding: bool = False) -> Any:
        """The next reply. Raises redis-py's ConnectionError and InvalidResponse."""
        return await self._read(self._connected(), 0)

    async def _read(self, incoming: "_Incoming", depth: int) -> Reply:
        line = await incoming.line()
        kind, rest = line[:1], line[1:]
        match kind:
            case b"+":
                return rest
            case b"-":
                return self._failure(rest)
            case b":":
                return _number(rest)
            case b"$":
                length = _length(rest, MAX_VALUE_BYTES)
                return None if length is None else await incoming.bulk(length)
            case b"*" if depth < _MAX_DEPTH:
                count = _length(rest, _MAX_ITEMS)
                return None if count is None else [await self._read(incoming, depth + 1) for _ in range(count)]
            case _:
                raise InvalidResponse("a reply of no known kind")

    def _failure(self, text: bytes) -> Exception:
        """As redis-py's parsers do: what ends the connection is raised, what is only an answer is returned."""
        parse: Callable[[str], Exception] = self.parse_error
        error = parse(text.decode("utf-8", errors="replace"))
        if isinstance(error, RedisConnectionError):
            raise error
        return error

    def _connected(self) -> "_Incoming":
        if self._incoming is None:
            raise RedisConnectionError("the connection is closed")
        return self._incoming


class _Incoming(asyncio.BufferedProtocol):
    """Bytes on their way in: into a scratch buffer, or into the value that is being read.

    Writing stays with asyncio's own stream, which hears only what it needs.
    """

    def __init__(self, transport: asyncio.Transport, stream: asyncio.Protocol) -> None:
        self._transport = transport
        self._stream = stream
        self._scratch = bytearray(_SCRATCH_BYTES)
        self._start = self._end = 0
        self._target: memoryview | None = None
        """The part of the value being read that is still to be filled."""
        self._waiter: asyncio.Future[None] | None = None
        self._is_closed = self._is_paused = False

    @property
    def is_dirty(self) -> bool:
        return self._end > self._start or self._is_closed

    async def line(self) -> bytes:
        """Up to the next CRLF, without it."""
        while (found := self._scratch.find(b"\r\n", self._start, self._end)) < 0:
            if self._end - self._start == _SCRATCH_BYTES:
                raise InvalidResponse("a line that does not end")
            await self._more()
        line = bytes(self._scratch[self._start : found])
        self._take(found + 2 - self._start)
        return line

    async def bulk(self, length: int) -> bytes | bytearray:
        """`length` bytes and the CRLF behind them."""
        value = bytearray(length)
        have = min(length, self._end - self._start)
        value[:have] = self._scratch[self._start : self._start + have]
        self._take(have)
        self._target = memoryview(value)[have:]
        try:
            while self._target:
                await self._more()
        finally:
            self._target = None
        while self._end - self._start < 2:
            await self._more()
        if self._scratch[self._start : self._start + 2] != b"\r\n":
            raise InvalidResponse("a value that is longer than its length")
        self._take(2)
        return value if length >= _SMALL_BYTES else bytes(value)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._target:
            return self._target
        if self._start:
            self._scratch[: self._end - self._start] = self._scratch[self._start : self._end]
            self._start, self._end = 0, self._end - self._start
        return memoryview(self._scratch)[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._target:
            self._target = self._target[nbytes:]
            if self._target:
                return
        else:
            self._end += nbytes
            if self._end - self._start == _SCRATCH_BYTES:
                self._is_paused = True
                self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool | None:
        self._close()
        return self._stream.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._close()
        self._stream.connection_lost(exc)

    def pause_writing(self) -> None:
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        self._stream.resume_writing()

    async def _more(self) -> None:
        if self._is_closed:
            raise RedisConnectionError("the server closed the connection")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _take(self, count: int) -> None:
        self._start += count
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    def _close(self) -> None:
        self._is_closed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _number(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidResponse("not a number") from None


def _length(text: bytes, most: int) -> int | None:
    number = _number(text)
    if number == -1:
        return None
    if not 0 <= number <= most:
        raise InvalidResponse(f"a length of {number}, at most {most} is read")
    return number
