"""Embeddings and media under content keys: step 5 of the data's path.

An embedding is one value a tile and a manifest that is written last, so that a reader sees all of it or nothing:

    internvl:{<key>}:manifest    frame(MANIFEST) + tile count of each part, uint32: one part for a picture, one a frame
    internvl:{<key>}:0           frame(TILE)     + rows, little-endian, (R, D)
    internvl:{<key>}:1 ...
    internvl:media:{<id>}        frame(MEDIA)    + SHA-256 of the file + the file

A frame is a fixed header with a digest of what follows. A value that fails its checks is deleted, counted and treated
as absent; nothing read here is ever unpickled. Knows no tensors: values leave as bytes, and torch.frombuffer takes it
from there.
"""

import asyncio
import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from shared.errors import EmbeddingInvalid, EmbeddingNotFound, MediaExpired
from shared.value_store import ValueStore

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_DTYPES = tuple(DTYPE_BYTES)
_HEADER = struct.Struct("<4sBBBxII32s")
_MAGIC, _VERSION = b"IVLE", 1
_DIGEST_BYTES = 32
TILES_PER_READ = 4
"""Tiles of one MGET: 16 MiB at most at the 78B width, so that no reader holds a connection for long."""


class ValueKind(IntEnum):
    """What follows a header."""

    MANIFEST = 1
    TILE = 2
    MEDIA = 3


@dataclass(frozen=True)
class Manifest:
    """Shape of an embedding: tiles of R rows of width D."""

    rows_per_tile: int
    width: int
    dtype: str
    part_tile_counts: tuple[int, ...]
    """Tiles of the picture, or of each frame of a clip."""

    @property
    def tile_count(self) -> int:
        return sum(self.part_tile_counts)

    @property
    def tile_bytes(self) -> int:
        return self.rows_per_tile * self.width * DTYPE_BYTES[self.dtype]

    def pack(self) -> bytes:
        payload = struct.pack(f"<{len(self.part_tile_counts)}I", *self.part_tile_counts)
        return frame(ValueKind.MANIFEST, payload, dtype=self.dtype, rows=self.rows_per_tile, width=self.width)

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Raises EmbeddingInvalid."""
        header = _Header.read(value, ValueKind.MANIFEST)
        payload = value[_HEADER.size :]
        if not payload or len(payload) % 4:
            raise EmbeddingInvalid("a manifest of the wrong length")
        counts = struct.unpack(f"<{len(payload) // 4}I", payload)
        if not all(counts) or not header.rows or not header.width:
            raise EmbeddingInvalid("a manifest with a zero in it")
        return cls(header.rows, header.width, header.dtype, counts)


@dataclass(frozen=True)
class _Header:
    dtype: str
    rows: int
    width: int

    @classmethod
    def read(cls, value: bytes, kind: ValueKind) -> Self:
        """Checks magic, version, kind and digest. Raises EmbeddingInvalid."""
        if len(value) < _HEADER.size:
            raise EmbeddingInvalid(f"a value of {len(value)} bytes is shorter than its header")
        magic, version, found, dtype, rows, width, digest = _HEADER.unpack_from(value)
        if (magic, version, found) != (_MAGIC, _VERSION, kind) or dtype >= len(_DTYPES):
            raise EmbeddingInvalid(f"not a {kind.name.lower()} of version {_VERSION}")
        if _digest(value[: _HEADER.size - _DIGEST_BYTES], memoryview(value)[_HEADER.size :]) != digest:
            raise EmbeddingInvalid(f"a {kind.name.lower()} does not match its digest")
        return cls(_DTYPES[dtype], rows, width)


def frame(
    kind: ValueKind, payload: bytes | memoryview, *, dtype: str = "float32", rows: int = 0, width: int = 0
) -> bytes:
    """Header and payload as one value. The digest covers both."""
    start = _HEADER.pack(_MAGIC, _VERSION, kind, _DTYPES.index(dtype), rows, width, b"")[:-_DIGEST_BYTES]
    return b"".join((start, _digest(start, payload), payload))


def _digest(start: bytes, payload: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(start)
    digest.update(payload)
    return digest.digest()


class EmbeddingStore:
    """Embeddings and media on any ValueStore. Raises StoreUnavailable when that cannot answer."""

    def __init__(self, values: ValueStore, *, embedding_seconds: float, media_seconds: float) -> None:
        self._values = values
        self._embedding_seconds = embedding_seconds
        self._media_seconds = media_seconds
        self.invalid_value_count = 0
        """Values that failed their checks since the start."""

    async def find(self, key: str) -> Manifest | None:
        """The manifest if the embedding is there; its life starts anew."""
        (value,) = await self._values.get([_manifest_name(key)])
        if value is None:
            return None
        try:
            manifest = Manifest.unpack(value)
        except EmbeddingInvalid:
            await self.discard(key, 0)
            return None
        await self._values.touch(_names(key, manifest.tile_count), self._embedding_seconds)
        return manifest

    async def put(self, key: str, manifest: Manifest, tiles: Sequence[bytes]) -> None:
        """Stores framed tiles (`frame_tile`), then the manifest that makes them visible."""
        assert len(tiles) == manifest.tile_count
        values = {_tile_name(key, index): tile for index, tile in enumerate(tiles)}
        await self._values.put({**values, _manifest_name(key): manifest.pack()}, self._embedding_seconds)

    async def read_values(self, key: str, tiles: Iterable[int]) -> list[bytes]:
        """The framed tiles as they are stored. Raises EmbeddingNotFound if one is absent."""
        found: list[bytes] = []
        names = [_tile_name(key, index) for index in tiles]
        for start in range(0, len(names), TILES_PER_READ):
            for value in await self._values.get(names[start : start + TILES_PER_READ]):
                if value is None:
                    raise EmbeddingNotFound.of([key])
                found.append(value)
        return found

    async def read_tiles(self, key: str, manifest: Manifest, tiles: Iterable[int]) -> list[memoryview]:
        """Rows of the tiles, (R, D) each as raw bytes, checked.

        Raises EmbeddingNotFound if one is absent, or is bad: the embedding is then discarded, to be made again.
        """
        values = await self.read_values(key, tiles)
        try:
            return await asyncio.to_thread(lambda: [open_tile(value, manifest) for value in values])
        except EmbeddingInvalid as error:
            await self.discard(key, manifest.tile_count)
            raise EmbeddingNotFound.of([key]) from error

    async def discard(self, key: str, tile_count: int) -> None:
        """Removes an embedding that failed its checks."""
        self.invalid_value_count += 1
        await self._values.delete(_names(key, tile_count))

    async def put_media(self, identifier: str, digest: bytes, data: bytes) -> None:
        """Keeps a file, whose SHA-256 is `digest`, unless it is kept already; either way its life starts anew."""
        try:
            await self.media_digest(identifier)
            await self.touch_media(identifier)
        except MediaExpired:
            value = await asyncio.to_thread(frame, ValueKind.MEDIA, digest + data)
            await self._values.put({_media_name(identifier): value}, self._media_seconds)

    async def touch_media(self, identifier: str) -> None:
        """Starts the life of a file anew."""
        await self._values.touch([_media_name(identifier)], self._media_seconds)

    async def media_digest(self, identifier: str) -> bytes:
        """SHA-256 of a kept file, without reading the file. Raises MediaExpired."""
        wanted = _HEADER.size + _DIGEST_BYTES
        start = await self._values.get_start(_media_name(identifier), wanted)
        if len(start) < wanted:
            raise media_expired(identifier)
        return start[_HEADER.size :]

    async def media(self, identifier: str) -> bytes:
        """A kept file. Raises MediaExpired, also for a file that failed its checks."""
        (value,) = await self._values.get([_media_name(identifier)])
        if value is None:
            raise media_expired(identifier)
        try:
            _Header.read(value, ValueKind.MEDIA)
        except EmbeddingInvalid as error:
            self.invalid_value_count += 1
            await self._values.delete([_media_name(identifier)])
            raise media_expired(identifier) from error
        await self.touch_media(identifier)
        return value[_HEADER.size + _DIGEST_BYTES :]

    async def ping(self) -> None:
        """Raises StoreUnavailable unless the store answers."""
        await self._values.ping()

    async def close(self) -> None:
        await self._values.close()


def media_expired(identifier: str) -> MediaExpired:
    return MediaExpired("a media id is unknown or has expired; send it again", metadata={"media_id": identifier})


def frame_tile(rows: bytes | memoryview, manifest: Manifest) -> bytes:
    """One tile as a value. Raises ValueError when the rows are not the manifest's size."""
    if len(rows) != manifest.tile_bytes:
        raise ValueError(f"a tile has {len(rows)} bytes, its manifest says {manifest.tile_bytes}")
    return frame(ValueKind.TILE, rows, dtype=manifest.dtype, rows=manifest.rows_per_tile, width=manifest.width)


def open_tile(value: bytes, manifest: Manifest) -> memoryview:
    """The rows of a framed tile, not copied. Raises EmbeddingInvalid."""
    header = _Header.read(value, ValueKind.TILE)
    payload = memoryview(value)[_HEADER.size :]
    found = (header.rows, header.width, header.dtype, len(payload))
    wanted = (manifest.rows_per_tile, manifest.width, manifest.dtype, manifest.tile_bytes)
    if found != wanted:
        raise EmbeddingInvalid(f"a tile is {found}, its manifest says {wanted}")
    return payload


def _manifest_name(key: str) -> str:
    return f"internvl:{{{key}}}:manifest"


def _tile_name(key: str, index: int) -> str:
    return f"internvl:{{{key}}}:{index}"


def _names(key: str, tile_count: int) -> list[str]:
    return [_manifest_name(key), *(_tile_name(key, index) for index in range(tile_count))]


def _media_name(identifier: str) -> str:
    return f"internvl:media:{{{identifier}}}"
