"""Where embeddings and media are kept: this replica's memory first, Redis behind the answers.

put     memory now, Redis in the background, bounded by bytes; past the bound the answer waits
find    memory, then Redis; what memory has and Redis has lost is written again
Redis   unreachable: slower, not broken; `is_degraded` says so, the log once an outage
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from shared.content import content_digest, media_id
from shared.embedding_store import EmbeddingStore, Manifest, media_expired
from shared.errors import MediaExpired, StoreUnavailable

log = logging.getLogger(__name__)


class Copies:
    """The two stores as one."""

    def __init__(self, memory: EmbeddingStore, redis: EmbeddingStore, *, write_behind_bytes: int) -> None:
        self._memory = memory
        self._redis = redis
        self._write_behind_bytes = write_behind_bytes
        self._pending_bytes = 0
        self._pending: set[asyncio.Task[None]] = set()
        self.is_degraded = False
        """Whether Redis failed to answer the last time."""

    @property
    def pending_bytes(self) -> int:
        """Bytes on their way to Redis."""
        return self._pending_bytes

    async def find(self, key: str) -> Manifest | None:
        """The manifest of an embedding that either store holds. Either way its life starts anew."""
        held = await self._memory.find(key)
        if held is not None:
            await self._behind(0, lambda: self._refresh(key, held))
            return held
        try:
            manifest = await self._redis.find(key)
        except StoreUnavailable as error:
            self._note_outage(error)
            return None
        self._note_answer()
        return manifest

    async def put(self, key: str, manifest: Manifest, tiles: Sequence[bytes]) -> None:
        """Keeps an embedding; `tiles` are framed."""
        await self._memory.put(key, manifest, tiles)
        await self._behind(sum(map(len, tiles)), lambda: self._redis.put(key, manifest, tiles))

    async def read_local(self, key: str) -> tuple[Manifest, list[bytes]] | None:
        """An embedding as this replica's memory holds it, tiles framed; None without it."""
        manifest = await self._memory.find(key)
        if manifest is None:
            return None
        return manifest, await self._memory.read_values(key, range(manifest.tile_count))

    async def put_media(self, tenant: str, digest: bytes, data: bytes) -> str:
        """Keeps a file, whose SHA-256 is `digest`; returns its id."""
        identifier = media_id(tenant, digest)
        await self._memory.put_media(identifier, digest, data)
        await self._behind(len(data), lambda: self._redis.put_media(identifier, digest, data))
        return identifier

    async def media_digest(self, tenant: str, identifier: str) -> bytes:
        """SHA-256 of a kept file. Raises MediaExpired, also for a file of another tenant."""
        digest = await self._first(lambda store: store.media_digest(identifier), identifier)
        if media_id(tenant, digest) != identifier:
            raise media_expired(identifier)
        return digest

    async def media(self, tenant: str, identifier: str) -> bytes:
        """A kept file. Raises MediaExpired."""
        data = await self._first(lambda store: store.media(identifier), identifier)
        if media_id(tenant, content_digest(data)) != identifier:
            raise media_expired(identifier)
        return data

    async def close(self) -> None:
        """Waits for what is on its way, then closes both stores."""
        await asyncio.gather(*self._pending, return_exceptions=True)
        await self._memory.close()
        await self._redis.close()

    async def _first(self, ask: Callable[[EmbeddingStore], Awaitable[bytes]], identifier: str) -> bytes:
        """Memory's answer, else Redis's. Without Redis the id counts as expired: sending the file again does work."""
        try:
            return await ask(self._memory)
        except MediaExpired:
            pass
        try:
            answer = await ask(self._redis)
        except StoreUnavailable as error:
            self._note_outage(error)
            raise media_expired(identifier) from error
        self._note_answer()
        return answer

    async def _refresh(self, key: str, manifest: Manifest) -> None:
        if await self._redis.find(key) is None:
            tiles = await self._memory.read_values(key, range(manifest.tile_count))
            await self._redis.put(key, manifest, tiles)

    async def _behind(self, size: int, write: Callable[[], Awaitable[None]]) -> None:
        """Runs a write behind the answer; in front of it when too many bytes are on their way already."""
        self._pending_bytes += size
        task = asyncio.create_task(self._write(size, write))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        if self._pending_bytes > self._write_behind_bytes:
            await task

    async def _write(self, size: int, write: Callable[[], Awaitable[None]]) -> None:
        try:
            await write()
            self._note_answer()
        except StoreUnavailable as error:
            self._note_outage(error)
        except Exception as error:
            log.error("a write to the store failed", exc_info=error)
        finally:
            self._pending_bytes -= size

    def _note_outage(self, error: StoreUnavailable) -> None:
        if not self.is_degraded:
            log.warning("serving without the embedding store", extra={"cause": error.message})
        self.is_degraded = True

    def _note_answer(self) -> None:
        if self.is_degraded:
            log.info("the embedding store answers again")
        self.is_degraded = False
