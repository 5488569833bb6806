"""Images and videos under ids, with a longer life than their embeddings, which can be made again from them.

A file is a value for every 4 MiB and one, written last, that says what they make:

    internvl:media:{<id>}:file    frame(MEDIA) + SHA-256 of the file + its length, uint64
    internvl:media:{<id>}:0 ...   frame(CHUNK) + 4 MiB of the file

In one value a video could neither be as long as one may be (512 MiB is the longest value of Redis), nor be read
without everyone else's lookups waiting for it.
"""

import asyncio
import hashlib
import struct
from dataclasses import dataclass
from typing import Self

from internvl.errors import EmbeddingInvalid, MediaExpired
from shared.store.framing import Value, ValueKind, frame, unframe
from shared.store.value_store import ValueStore

CHUNK_BYTES = 4 << 20
_FILE = struct.Struct("<32sQ")


@dataclass(frozen=True)
class KeptFile:
    """Facts about a kept file that need no reading of it."""

    digest: bytes
    """SHA-256."""
    size_bytes: int

    @property
    def chunk_count(self) -> int:
        return -(-self.size_bytes // CHUNK_BYTES)

    @classmethod
    def unpack(cls, identifier: str, value: Value) -> Self:
        """Raises EmbeddingInvalid."""
        _, payload = unframe(_file_name(identifier), ValueKind.MEDIA, value)
        if len(payload) != _FILE.size:
            raise EmbeddingInvalid("a file entry of the wrong length")
        return cls(*_FILE.unpack(payload))

    def pack(self, identifier: str) -> bytes:
        return frame(_file_name(identifier), ValueKind.MEDIA, _FILE.pack(self.digest, self.size_bytes))


class MediaStore:
    """Files on any ValueStore. Raises StoreUnavailable when that cannot answer."""

    def __init__(self, values: ValueStore, *, seconds: float) -> None:
        self._values = values
        self._seconds = seconds
        self.invalid_value_count = 0
        """Values that failed their checks since the start."""

    async def put(self, identifier: str, digest: bytes, data: bytes) -> None:
        """Keeps a file, whose SHA-256 is `digest`, unless it is kept already; either way its TTL is renewed."""
        if await self.touch(identifier):
            return
        file = KeptFile(digest, len(data))
        for index in range(file.chunk_count):
            name = _chunk_name(identifier, index)
            value = await asyncio.to_thread(frame, name, ValueKind.CHUNK, _chunk(data, index))
            await self._values.put({name: value}, self._seconds)
        await self._values.put({_file_name(identifier): file.pack(identifier)}, self._seconds)

    async def find(self, identifier: str) -> KeptFile:
        """The file kept under an id. Raises MediaExpired, also when its entry failed its checks."""
        (value,) = await self._values.get([_file_name(identifier)])
        if value is None:
            raise media_expired(identifier)
        try:
            return KeptFile.unpack(identifier, value)
        except EmbeddingInvalid as error:
            await self._discard(identifier, 0)
            raise media_expired(identifier) from error

    async def touch(self, identifier: str) -> bool:
        """Renews the TTL of a file; returns whether all of it is there."""
        try:
            file = await self.find(identifier)
        except MediaExpired:
            return False
        names = _names(identifier, file.chunk_count)
        return await self._values.touch(names, self._seconds) == len(names)

    async def read(self, identifier: str) -> bytes:
        """A kept file. Raises MediaExpired, also for a file that lacks a part or failed its checks."""
        file = await self.find(identifier)
        data = bytearray()
        for index in range(file.chunk_count):
            data += await self._chunk(identifier, index, file)
        if await asyncio.to_thread(lambda: hashlib.sha256(data).digest()) != file.digest:
            await self._discard(identifier, file.chunk_count)
            raise media_expired(identifier)
        return bytes(data)

    async def close(self) -> None:
        await self._values.close()

    async def _chunk(self, identifier: str, index: int, file: KeptFile) -> memoryview:
        name = _chunk_name(identifier, index)
        (value,) = await self._values.get([name])
        if value is None:
            raise media_expired(identifier)
        try:
            return unframe(name, ValueKind.CHUNK, value)[1]
        except EmbeddingInvalid as error:
            await self._discard(identifier, file.chunk_count)
            raise media_expired(identifier) from error

    async def _discard(self, identifier: str, chunk_count: int) -> None:
        self.invalid_value_count += 1
        await self._values.delete(_names(identifier, chunk_count))


def media_expired(identifier: str) -> MediaExpired:
    return MediaExpired("a media id is unknown or has expired; send it again", metadata={"media_id": identifier})


def _chunk(data: bytes, index: int) -> memoryview:
    return memoryview(data)[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]


def _file_name(identifier: str) -> str:
    return f"internvl:media:{{{identifier}}}:file"


def _chunk_name(identifier: str, index: int) -> str:
    return f"internvl:media:{{{identifier}}}:{index}"


def _names(identifier: str, chunk_count: int) -> list[str]:
    return [_file_name(identifier), *(_chunk_name(identifier, index) for index in range(chunk_count))]
