"""The newest embeddings and files in this replica's own memory, each whole.

Answers without waiting for anything, and copies nothing: it holds the objects that the store is sent.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from shared.store.embedding_store import Manifest
from vision_service.metrics import MEMORY_EVICTIONS


@dataclass(frozen=True)
class HeldEmbedding:
    """An embedding, its tiles framed as in the store."""

    manifest: Manifest
    tiles: Sequence[bytes]

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.tiles))


@dataclass(frozen=True)
class HeldFile:
    """An image or video."""

    digest: bytes
    """SHA-256."""
    data: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.data)


class MemoryCopies:
    """Least recently used entries go when `max_bytes` are held; unused ones when their life ends."""

    def __init__(self, max_bytes: int, *, embedding_seconds: float, media_seconds: float) -> None:
        self._max_bytes = max_bytes
        self._embedding_seconds = embedding_seconds
        self._media_seconds = media_seconds
        self._held_bytes = 0
        self._entries: OrderedDict[str, tuple[HeldEmbedding | HeldFile, float]] = OrderedDict()

    @property
    def held_bytes(self) -> int:
        """Never more than `max_bytes`."""
        return self._held_bytes

    def embedding(self, key: str) -> HeldEmbedding | None:
        """The embedding held under a content key. Its TTL is renewed."""
        held = self._use(key, self._embedding_seconds)
        return held if isinstance(held, HeldEmbedding) else None

    def file(self, identifier: str) -> HeldFile | None:
        """The file held under a media id. Its TTL is renewed."""
        held = self._use(identifier, self._media_seconds)
        return held if isinstance(held, HeldFile) else None

    def hold(self, name: str, entry: HeldEmbedding | HeldFile) -> None:
        """Holds an entry under its key or id; too large a one is not held, and pushes nothing out."""
        self._remove(name)
        if entry.size_bytes > self._max_bytes:
            return
        seconds = self._embedding_seconds if isinstance(entry, HeldEmbedding) else self._media_seconds
        self._entries[name] = (entry, time.monotonic() + seconds)
        self._held_bytes += entry.size_bytes
        while self._held_bytes > self._max_bytes:
            MEMORY_EVICTIONS.inc()
            self._remove(next(iter(self._entries)))

    def clear(self) -> None:
        self._entries.clear()
        self._held_bytes = 0

    def _use(self, name: str, seconds: float) -> HeldEmbedding | HeldFile | None:
        entry, expires = self._entries.get(name, (None, 0.0))
        if entry is None or expires <= time.monotonic():
            self._remove(name)
            return None
        self._entries[name] = (entry, time.monotonic() + seconds)
        self._entries.move_to_end(name)
        return entry

    def _remove(self, name: str) -> None:
        entry, _ = self._entries.pop(name, (None, 0.0))
        self._held_bytes -= entry.size_bytes if entry is not None else 0
