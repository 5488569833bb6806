"""Where embeddings and media are kept: this replica's memory first, Redis behind the answers.

keep    memory now, Redis in the background, bounded by bytes; past the bound the answer waits a little
find    memory, then Redis; what memory has and Redis has lost is written again, when there is room
Redis   unreachable: slower, not broken; `is_degraded` says so, the log once an outage

A hit waits for no write, not even for a place in the queue of writes.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from internvl.errors import StoreUnavailable
from shared.content import content_digest, is_media_id, media_id
from shared.store.embedding_store import EmbeddingStore, Manifest
from shared.store.media_store import MediaStore, media_expired
from vision_service.copies.memory_copies import HeldEmbedding, HeldFile, MemoryCopies
from vision_service.copies.write_behind import WriteBehind

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")
_MAX_SHOWN_CHARS = 64


class Copies:
    """Memory and Redis as one."""

    def __init__(
        self, memory: MemoryCopies, embeddings: EmbeddingStore, media: MediaStore, writes: WriteBehind
    ) -> None:
        self._memory = memory
        self._embeddings = embeddings
        self._media = media
        self._writes = writes
        self._cannot_read = False

    @property
    def pending_bytes(self) -> int:
        """Bytes on their way to Redis."""
        return self._writes.pending_bytes

    @property
    def is_degraded(self) -> bool:
        """Whether Redis failed the last time it was read or written."""
        return self._cannot_read or self._writes.is_failing

    async def find(self, key: str) -> Manifest | None:
        """The manifest of an embedding that either holds whole. Either way its life starts anew."""
        held = self._memory.embedding(key)
        if held is not None:
            self._writes.offer(key, held.size_bytes, lambda: self._write_embedding(key, held))
            return held.manifest
        try:
            manifest = await self._embeddings.find(key)
        except StoreUnavailable as error:
            self._note_outage(error)
            return None
        self._note_answer()
        return manifest

    async def keep(self, key: str, manifest: Manifest, tiles: Sequence[bytes]) -> "asyncio.Future[bool]":
        """Keeps an embedding; `tiles` are framed. The future tells when Redis has it, or that it will not."""
        held = HeldEmbedding(manifest, tiles)
        self._memory.hold(key, held)
        return await self._writes.write(key, held.size_bytes, lambda: self._write_embedding(key, held))

    def read_local(self, key: str) -> HeldEmbedding | None:
        """An embedding as this replica's memory holds it; None without it."""
        return self._memory.embedding(key)

    async def keep_media(self, tenant: str, digest: bytes, data: bytes) -> tuple[str, "asyncio.Future[bool]"]:
        """Keeps a file, whose SHA-256 is `digest`; its id, and when other replicas find it, or will not."""
        identifier = media_id(tenant, digest)
        self._memory.hold(identifier, HeldFile(digest, data))
        written = await self._writes.write(identifier, len(data), lambda: self._media.put(identifier, digest, data))
        return identifier, written

    def refresh_media(self, tenant: str, digest: bytes, data: bytes) -> str:
        """The same for a file whose embedding was there: without waiting for a place in the queue."""
        identifier = media_id(tenant, digest)
        self._memory.hold(identifier, HeldFile(digest, data))
        self._writes.offer(identifier, len(data), lambda: self._media.put(identifier, digest, data))
        return identifier

    def touch_media(self, identifier: str) -> None:
        """Starts the life of a file anew, whoever holds it."""
        held = self._memory.file(identifier)
        if held is None:
            self._writes.offer(identifier, 0, lambda: self._media.touch(identifier))
        else:
            self._writes.offer(identifier, held.size_bytes, lambda: self._media.put(identifier, held.digest, held.data))

    async def media_digest(self, tenant: str, identifier: str) -> bytes:
        """SHA-256 of a kept file. Raises MediaExpired, also for a file of another tenant."""
        held = self._held_file(identifier)
        digest = held.digest if held is not None else (await self._stored(identifier, self._media.find)).digest
        if media_id(tenant, digest) != identifier:
            raise media_expired(identifier)
        return digest

    async def media(self, tenant: str, identifier: str) -> bytes:
        """A kept file. Raises MediaExpired."""
        held = self._held_file(identifier)
        data = held.data if held is not None else await self._stored(identifier, self._media.read)
        if media_id(tenant, await asyncio.to_thread(content_digest, data)) != identifier:
            raise media_expired(identifier)
        return data

    async def close(self) -> None:
        """Waits for what is on its way, then closes everything."""
        await self._writes.close()
        self._memory.clear()
        await self._embeddings.close()
        await self._media.close()

    def _held_file(self, identifier: str) -> HeldFile | None:
        if not is_media_id(identifier):
            raise media_expired(identifier[:_MAX_SHOWN_CHARS])
        return self._memory.file(identifier)

    async def _stored(self, identifier: str, ask: Callable[[str], Awaitable[Answer]]) -> Answer:
        """Redis's answer. Without Redis the id counts as expired: sending the file again does work."""
        try:
            answer = await ask(identifier)
        except StoreUnavailable as error:
            self._note_outage(error)
            raise media_expired(identifier) from error
        self._note_answer()
        return answer

    async def _write_embedding(self, key: str, held: HeldEmbedding) -> None:
        if await self._embeddings.find(key) is None:
            await self._embeddings.put(key, held.manifest, held.tiles)
        self._note_answer()

    def _note_outage(self, error: StoreUnavailable) -> None:
        if not self._cannot_read:
            log.warning("serving without the embedding store", extra={"cause": error.message})
        self._cannot_read = True

    def _note_answer(self) -> None:
        if self._cannot_read:
            log.info("the embedding store answers again")
        self._cannot_read = False
