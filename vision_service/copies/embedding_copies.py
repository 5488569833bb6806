"""Copies of embeddings: this replica's memory first, Redis behind the answers.

keep    memory now, Redis in the background, bounded by bytes; past the bound the answer waits a little
find    memory, then Redis; what memory has and Redis has lost is written again, when there is room

A hit waits for no write, not even for a place in the queue of writes.
"""

import asyncio
from collections.abc import Sequence

from internvl.errors import StoreUnavailable
from shared.store.embedding_store import EmbeddingStore, Manifest
from vision_service.copies.memory_copies import HeldEmbedding, MemoryCopies
from vision_service.copies.outage import Outage
from vision_service.copies.write_behind import WriteBehind


class EmbeddingCopies:
    """Embeddings in memory and in Redis as one."""

    def __init__(self, memory: MemoryCopies, store: EmbeddingStore, writes: WriteBehind, outage: Outage) -> None:
        self._memory = memory
        self._store = store
        self._writes = writes
        self._outage = outage

    async def find(self, key: str) -> Manifest | None:
        """The manifest of an embedding that either place holds whole. Its TTL is renewed."""
        held = self._memory.embedding(key)
        if held is not None:
            self._writes.offer(key, held.size_bytes, lambda: self._write(key, held))
            return held.manifest
        try:
            manifest = await self._store.find(key)
        except StoreUnavailable as error:
            self._outage.note_failure(error)
            return None
        self._outage.note_answer()
        return manifest

    async def keep(self, key: str, manifest: Manifest, tiles: Sequence[bytes]) -> "asyncio.Future[bool]":
        """Keeps an embedding; `tiles` are framed. The future tells when Redis has it, or that it will not."""
        held = HeldEmbedding(manifest, tiles)
        self._memory.hold(key, held)
        return await self._writes.write(key, held.size_bytes, lambda: self._write(key, held))

    def in_memory(self, key: str) -> HeldEmbedding | None:
        """An embedding as this replica's memory holds it; None without it."""
        return self._memory.embedding(key)

    async def close(self) -> None:
        """Closes the store; writes must have ended."""
        await self._store.close()

    async def _write(self, key: str, held: HeldEmbedding) -> None:
        if await self._store.find(key) is None:
            await self._store.put(key, held.manifest, held.tiles)
        self._outage.note_answer()
