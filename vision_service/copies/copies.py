"""Both kinds of copies over one memory, one queue of writes and one Redis."""

from shared.store.embedding_store import EmbeddingStore
from shared.store.media_store import MediaStore
from vision_service.copies.embedding_copies import EmbeddingCopies
from vision_service.copies.media_copies import MediaCopies
from vision_service.copies.memory_copies import MemoryCopies
from vision_service.copies.outage import Outage
from vision_service.copies.write_behind import WriteBehind


class Copies:
    """Embeddings and media of this replica and of Redis."""

    def __init__(
        self, memory: MemoryCopies, embeddings: EmbeddingStore, media: MediaStore, writes: WriteBehind
    ) -> None:
        self._memory = memory
        self._writes = writes
        self._outage = Outage()
        self.embeddings = EmbeddingCopies(memory, embeddings, writes, self._outage)
        self.media = MediaCopies(memory, media, writes, self._outage)

    @property
    def pending_bytes(self) -> int:
        """Bytes on their way to Redis."""
        return self._writes.pending_bytes

    @property
    def is_degraded(self) -> bool:
        """Whether Redis failed the last time it was read or written."""
        return self._outage.is_on or self._writes.is_failing

    async def close(self) -> None:
        """Waits for writes under way, then closes everything."""
        await self._writes.close()
        self._memory.clear()
        await self.embeddings.close()
        await self.media.close()
