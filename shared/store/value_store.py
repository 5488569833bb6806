"""Bytes under names, for a while: what Redis promises, and a bounded dictionary that does the same.

Knows nothing of what the bytes mean. `MemoryStore` is the specification; `RedisStore` is in `redis_store`.
"""

import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from shared.store.framing import Value


class ValueStore(ABC):
    """Every method raises StoreUnavailable when the store cannot answer, within a bounded time.

    The names of one call share a hash tag, `{...}`: a cluster keeps them on one node.
    """

    @abstractmethod
    async def get(self, names: Sequence[str]) -> list[Value | None]:
        """The values, in order; None for what is absent."""

    @abstractmethod
    async def put(self, values: Mapping[str, bytes], seconds: float) -> None:
        """Stores all values, each for `seconds`, one after the other in the order given."""

    @abstractmethod
    async def touch(self, names: Sequence[str], seconds: float) -> int:
        """Gives those that are present `seconds` from now; returns how many those are."""

    @abstractmethod
    async def delete(self, names: Sequence[str]) -> None:
        """Removes those that are present."""

    @abstractmethod
    async def acquire(self, name: str, token: bytes, seconds: float) -> bool:
        """Stores `token` for `seconds` unless another token is there; whether it is there now. Renews, too."""

    @abstractmethod
    async def release(self, name: str, token: bytes) -> None:
        """Removes the lease if it holds `token`."""

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

    async def get(self, names: Sequence[str]) -> list[Value | None]:
        return [self._find(name) for name in names]

    async def put(self, values: Mapping[str, bytes], seconds: float) -> None:
        for name, value in values.items():
            self._remove(name)
            self._values[name] = (value, time.monotonic() + seconds)
            self._held_bytes += len(value)
        while self._held_bytes > self._max_bytes:
            self._remove(next(iter(self._values)))

    async def touch(self, names: Sequence[str], seconds: float) -> int:
        present = [(name, value) for name in names if (value := self._find(name)) is not None]
        for name, value in present:
            self._values[name] = (value, time.monotonic() + seconds)
        return len(present)

    async def delete(self, names: Sequence[str]) -> None:
        for name in names:
            self._remove(name)

    async def acquire(self, name: str, token: bytes, seconds: float) -> bool:
        if self._find(name) not in (None, token):
            return False
        await self.put({name: token}, seconds)
        return True

    async def release(self, name: str, token: bytes) -> None:
        if self._find(name) == token:
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
