"""Copies of images and videos under their ids: this replica's memory first, Redis behind the answers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from internvl.errors import StoreUnavailable
from shared.content import content_digest, is_media_id, media_id
from shared.store.media_store import MediaStore, media_expired
from vision_service.copies.memory_copies import HeldFile, MemoryCopies
from vision_service.copies.outage import Outage
from vision_service.copies.write_behind import WriteBehind

Answer = TypeVar("Answer")
_MAX_SHOWN_CHARS = 64


class MediaCopies:
    """Files in memory and in Redis as one."""

    def __init__(self, memory: MemoryCopies, store: MediaStore, writes: WriteBehind, outage: Outage) -> None:
        self._memory = memory
        self._store = store
        self._writes = writes
        self._outage = outage

    async def keep(self, tenant: str, digest: bytes, data: bytes) -> tuple[str, "asyncio.Future[bool]"]:
        """Keeps a file, whose SHA-256 is `digest`; its id, and when other replicas find it, or will not."""
        identifier = media_id(tenant, digest)
        self._memory.hold(identifier, HeldFile(digest, data))
        written = await self._writes.write(identifier, len(data), lambda: self._store.put(identifier, digest, data))
        return identifier, written

    def refresh(self, tenant: str, digest: bytes, data: bytes) -> str:
        """Keeps a file whose embedding was there, without waiting for a place in the queue; its id."""
        identifier = media_id(tenant, digest)
        self._memory.hold(identifier, HeldFile(digest, data))
        self._writes.offer(identifier, len(data), lambda: self._store.put(identifier, digest, data))
        return identifier

    def touch(self, identifier: str) -> None:
        """Renews the TTL of a file, wherever it is held."""
        held = self._memory.file(identifier)
        if held is None:
            self._writes.offer(identifier, 0, lambda: self._store.touch(identifier))
        else:
            self._writes.offer(identifier, held.size_bytes, lambda: self._store.put(identifier, held.digest, held.data))

    async def digest(self, tenant: str, identifier: str) -> bytes:
        """SHA-256 of a kept file. Raises MediaExpired, also for a file of another tenant."""
        held = self._held(identifier)
        digest = held.digest if held is not None else (await self._stored(identifier, self._store.find)).digest
        if media_id(tenant, digest) != identifier:
            raise media_expired(identifier)
        return digest

    async def read(self, tenant: str, identifier: str) -> bytes:
        """A kept file. Raises MediaExpired."""
        held = self._held(identifier)
        data = held.data if held is not None else await self._stored(identifier, self._store.read)
        if media_id(tenant, await asyncio.to_thread(content_digest, data)) != identifier:
            raise media_expired(identifier)
        return data

    async def close(self) -> None:
        """Closes the store; writes must have ended."""
        await self._store.close()

    def _held(self, identifier: str) -> HeldFile | None:
        if not is_media_id(identifier):
            raise media_expired(identifier[:_MAX_SHOWN_CHARS])
        return self._memory.file(identifier)

    async def _stored(self, identifier: str, ask: Callable[[str], Awaitable[Answer]]) -> Answer:
        """Redis's answer. Without Redis the id has expired: sending the file again does work."""
        try:
            answer = await ask(identifier)
        except StoreUnavailable as error:
            self._outage.note_failure(error)
            raise media_expired(identifier) from error
        self._outage.note_answer()
        return answer
