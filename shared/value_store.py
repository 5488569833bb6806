"""Bytes under names, for a while: Redis beside a bounded dictionary that does the same.

Knows nothing of what the bytes mean. `MemoryStore` is the specification, and what a vision replica falls back on.
"""

import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisError

from shared.errors import StoreUnavailable


class ValueStore(ABC):
    """Every method raises StoreUnavailable when the store cannot answer."""

    @abstractmethod
    async def get(self, names: Sequence[str]) -> list[bytes | None]:
        """The values, in order; None for what is absent."""

    @abstractmethod
    async def get_start(self, name: str, length: int) -> bytes:
        """At most the first `length` bytes; empty for what is absent."""

    @abstractmethod
    async def put(self, values: Mapping[str, bytes], seconds: float) -> None:
        """Stores all values, each for `seconds`, one after the other in the order given."""

    @abstractmethod
    async def touch(self, names: Iterable[str], seconds: float) -> None:
        """Gives those that are present `seconds` from now."""

    @abstractmethod
    async def delete(self, names: Iterable[str]) -> None:
        """Removes those that are present."""

    @abstractmethod
    async def ping(self) -> None:
        """Raises StoreUnavailable unless the store answers."""

    @abstractmethod
    async def close(self) -> None:
        """Gives back connections."""


class MemoryStore(ValueStore):
    """Least recently used values go when `max_bytes` are held."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self._values: OrderedDict[str, tuple[bytes, float]] = OrderedDict()

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    async def get(self, names: Sequence[str]) -> list[bytes | None]:
        return [self._find(name) for name in names]

    async def get_start(self, name: str, length: int) -> bytes:
        return (self._find(name) or b"")[:length]

    async def put(self, values: Mapping[str, bytes], seconds: float) -> None:
        for name, value in values.items():
            self._remove(name)
            self._values[name] = (value, time.monotonic() + seconds)
            self._held_bytes += len(value)
        while self._held_bytes > self._max_bytes:
            self._remove(next(iter(self._values)))

    async def touch(self, names: Iterable[str], seconds: float) -> None:
        for name in names:
            value = self._find(name)
            if value is not None:
                self._values[name] = (value, time.monotonic() + seconds)

    async def delete(self, names: Iterable[str]) -> None:
        for name in names:
            self._remove(name)

    async def ping(self) -> None:
        return None

    async def close(self) -> None:
        self._values.clear()
        self._held_bytes = 0

    def _find(self, name: str) -> bytes | None:
        value, expires = self._values.get(name, (None, 0.0))
        if value is None or expires <= time.monotonic():
            self._remove(name)
            return None
        self._values.move_to_end(name)
        return value

    def _remove(self, name: str) -> None:
        value, _ = self._values.pop(name, (b"", 0.0))
        self._held_bytes -= len(value)


class RedisStore(ValueStore):
    """A Redis-compatible server. Names of one embedding share a hash tag, so that a cluster keeps them together."""

    def __init__(self, url: str, *, timeout_seconds: float = 2.0) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            health_check_interval=15,
            retry=Retry(ExponentialWithJitterBackoff(base=0.01, cap=0.2), retries=2),
        )

    async def get(self, names: Sequence[str]) -> list[bytes | None]:
        if not names:
            return []
        with _translated():
            return [_as_bytes(value) for value in await self._redis.mget(names)]

    async def get_start(self, name: str, length: int) -> bytes:
        with _translated():
            return _as_bytes(await self._redis.getrange(name, 0, length - 1)) or b""

    async def put(self, values: Mapping[str, bytes], seconds: float) -> None:
        with _translated():
            for name, value in values.items():
                await self._redis.set(name, value, px=int(seconds * 1000))

    async def touch(self, names: Iterable[str], seconds: float) -> None:
        with _translated():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.pexpire(name, int(seconds * 1000))
                await pipeline.execute()

    async def delete(self, names: Iterable[str]) -> None:
        with _translated():
            await self._redis.delete(*names)

    async def ping(self) -> None:
        with _translated():
            await self._redis.ping()

    async def close(self) -> None:
        await self._redis.aclose()


def _as_bytes(value: bytes | str | None) -> bytes | None:
    assert not isinstance(value, str), "the client was opened with decode_responses"
    return value


class _translated:  # noqa: N801 - used as a statement
    """Foreign errors become ours where they enter; the message names no host and no key."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, (RedisError, OSError, TimeoutError)):
            raise StoreUnavailable(f"the embedding store does not answer ({type(error).__name__})") from error
