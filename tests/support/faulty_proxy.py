"""A proxy in front of a real server that does to its replies what networks and broken servers do; over TLS if told."""

import asyncio
import random
import ssl
from enum import Enum, auto
from typing import Self

_PIECE_BYTES = 64 << 10


class Fault(Enum):
    """What happens to replies."""

    NONE = auto()
    STALL = auto()
    """They never come."""
    SLOW = auto()
    """Each piece comes 20 ms late."""
    CUT = auto()
    """The connection breaks in the middle."""
    FLIP = auto()
    """A bit of each piece is another one."""
    GARBAGE = auto()
    """Something else comes instead."""
    HALF_CLOSE = auto()
    """They end, and the connection stays open for requests."""
    BLACK_HOLE = auto()
    """Neither requests nor replies get through, and nothing tells; when the fault is over they do."""


class FaultyProxy:
    """Listens on a port of its own while its context lasts."""

    def __init__(self, server: str, *, tls: ssl.SSLContext | None = None) -> None:
        """`server`: path of a unix socket, or host:port."""
        self._address = server
        self._tls = tls
        self._random = random.Random(0)
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self.fault = Fault.NONE
        self.byte_count = 0
        """Of replies that went through unharmed."""

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for call in list(self._calls):
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        writers = [writer]
        try:
            server_reader, server_writer = await self._connect()
            writers.append(server_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forward(reader, server_writer, requests=True))
                group.create_task(self._forward(server_reader, writer, requests=False))
        except* OSError:  # the server is gone, or either side has hung up
            pass
        finally:
            self._calls.discard(task)
            for one in writers:
                one.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._address.startswith("/"):
            return await asyncio.open_unix_connection(self._address)
        host, _, port = self._address.rpartition(":")
        return await asyncio.open_connection(host, int(port))

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, requests: bool) -> None:
        while piece := await reader.read(_PIECE_BYTES):
            while self.fault is Fault.BLACK_HOLE:  # noqa: ASYNC110 - the fault is a plain field for those who set it
                await asyncio.sleep(0.02)
            if self.fault is Fault.HALF_CLOSE and not requests:
                writer.write_eof()
                await asyncio.sleep(3600)
            writer.write(piece if requests else await self._harmed(piece))
            await writer.drain()
        raise ConnectionError

    async def _harmed(self, piece: bytes) -> bytes:
        match self.fault:
            case Fault.STALL:
                await asyncio.sleep(3600)
            case Fault.SLOW:
                await asyncio.sleep(0.02)
            case Fault.CUT:
                raise ConnectionError
            case Fault.FLIP:
                bit = self._random.randrange(8 * len(piece))
                return piece[: bit // 8] + bytes([piece[bit // 8] ^ 1 << bit % 8]) + piece[bit // 8 + 1 :]
            case Fault.GARBAGE:
                return self._random.choice(_GARBAGE) or self._random.randbytes(self._random.randrange(1, 200))
        self.byte_count += len(piece)
        return piece


_GARBAGE = (
    b"",  # random bytes
    b"+OK\r\n",
    b":7\r\n",
    b":x\r\n",
    b"$-1\r\n",
    b"$99999999999\r\n",
    b"$67108864\r\n",
    b"$-7\r\n",
    b"$3\r\nlonger",
    b"*-1\r\n",
    b"*999999999\r\n",
    b"*0\r\n",
    b"*1\r\n" * 50,
    b"*2\r\n$1\r\na\r\n:5\r\n",
    b"-ERR unknown\r\n",
    b"-MOVED 5 127.0.0.1:1\r\n",
    b"-OOM full\r\n",
    b"-\r\n",
    b"~1\r\n+set\r\n",
    b"\r\n" * 5,
    b"x" * 20_000,
)
