"""Embeddings under content keys: step 5 of the data's path.

An embedding is one value a tile and a manifest that is written last, so that a reader sees all of it or nothing:

    internvl:{<key>}:manifest    frame(MANIFEST) + uint32: pages or frames of the file; width and height;
                                 tile count of each part: one part for an image, one a frame
    internvl:{<key>}:0           frame(TILE)     + rows, little-endian, (R, D)
    internvl:{<key>}:1 ...

The braces make a cluster keep an embedding in one slot. A value that fails its checks is deleted, counted and treated
as absent; an embedding that lacks a tile, because the store evicts values one by one, is absent. Knows no tensors:
values leave as bytes, and the reader's tensor takes it from there.
"""

import asyncio
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from internvl.errors import EmbeddingInvalid, EmbeddingNotFound
from shared.serving.metrics import STORE_INVALID_VALUES, STORE_READ_BYTES, STORE_READS, STORE_WRITTEN_BYTES
from shared.store.framing import DTYPE_BYTES, Codec, Value, ValueKind, frame, unframe
from shared.store.value_store import ValueStore

TILES_PER_READ = 4
"""Tiles of one MGET: 16 MiB at most at the 78B width, so that no reader holds the server for long."""
INLINE_BYTES = 5 << 20
"""Up to here, one tile of the widest model, looking at bytes takes less than handing them to a thread and back."""
_LEAST_MANIFEST_BYTES = 16
READS_AT_ONCE = 8
"""Reads under way: bounds what their buffers take."""


@dataclass(frozen=True)
class Manifest:
    """Shape of an embedding: tiles of R rows of width D."""

    rows_per_tile: int
    width: int
    dtype: str
    part_tile_counts: tuple[int, ...]
    """Tiles of the image, or of each frame of a video."""
    source_count: int = 1
    """Pages of the image file, or frames of the video, whether they are among the parts or not."""
    size: tuple[int, int] = (0, 0)
    """Width and height of the image as it was shown to the model, in pixels; zeros for a video."""

    @property
    def tile_count(self) -> int:
        return sum(self.part_tile_counts)

    @property
    def row_bytes(self) -> int:
        return self.width * DTYPE_BYTES[self.dtype]

    @property
    def tile_bytes(self) -> int:
        return self.rows_per_tile * self.row_bytes

    def pack(self, key: str) -> bytes:
        """The value under which `key` becomes visible."""
        numbers = (self.source_count, *self.size, *self.part_tile_counts)
        payload = struct.pack(f"<{len(numbers)}I", *numbers)
        return frame(
            _manifest_name(key),
            ValueKind.MANIFEST,
            payload,
            dtype=self.dtype,
            rows=self.rows_per_tile,
            width=self.width,
        )

    @classmethod
    def unpack(cls, key: str, value: Value) -> Self:
        """Raises EmbeddingInvalid."""
        header, payload = unframe(_manifest_name(key), ValueKind.MANIFEST, value)
        if len(payload) < _LEAST_MANIFEST_BYTES or len(payload) % 4:
            raise EmbeddingInvalid("a manifest of the wrong length")
        source_count, width, height, *counts = struct.unpack(f"<{len(payload) // 4}I", payload)
        if not source_count or not all(counts) or not header.rows or not header.width:
            raise EmbeddingInvalid("a manifest with a zero in it")
        return cls(header.rows, header.width, header.dtype, tuple(counts), source_count, (width, height))


class EmbeddingStore:
    """Embeddings on any ValueStore. Raises StoreUnavailable when that cannot answer."""

    def __init__(self, values: ValueStore, *, seconds: float) -> None:
        self._values = values
        self._seconds = seconds
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        self.invalid_value_count = 0
        """Values that failed their checks since the start."""

    async def find(self, key: str) -> Manifest | None:
        """The manifest if all of the embedding is there; its TTL is renewed."""
        (value,) = await self._values.get([_manifest_name(key)])
        manifest = await self._manifest(key, value)
        if manifest is None:
            STORE_READS.labels("miss").inc()
            return None
        if not await self._touch(key, manifest):
            STORE_READS.labels("evicted").inc()
            return None
        STORE_READS.labels("hit").inc()
        return manifest

    async def put(self, key: str, manifest: Manifest, tiles: Sequence[bytes]) -> None:
        """Stores framed tiles (`frame_tile`), then the manifest that makes them visible."""
        assert len(tiles) == manifest.tile_count
        values = {_tile_name(key, index): tile for index, tile in enumerate(tiles)}
        await self._values.put({**values, _manifest_name(key): manifest.pack(key)}, self._seconds)
        STORE_WRITTEN_BYTES.inc(sum(map(len, tiles)))

    async def read(self, key: str, tiles: Sequence[int]) -> tuple[Manifest, list[memoryview]]:
        """The manifest, and rows of the tiles, (R, D) each as raw bytes, checked; its TTL is renewed.

        Up to TILES_PER_READ tiles in one round trip. Raises EmbeddingNotFound if something is absent, or is bad: the
        embedding is then discarded, to be made again.
        """
        async with self._reads:
            first, rest = tiles[:TILES_PER_READ], tiles[TILES_PER_READ:]
            value, *values = await self._values.get([_manifest_name(key), *(_tile_name(key, index) for index in first)])
            manifest = await self._manifest(key, value)
            if manifest is None:
                STORE_READS.labels("miss").inc()
                raise EmbeddingNotFound.of([key])
            touching = asyncio.create_task(self._touch(key, manifest))
            try:
                found = await self._checked(key, manifest, first, values)
                for start in range(0, len(rest), TILES_PER_READ):
                    indices = rest[start : start + TILES_PER_READ]
                    values = await self._values.get([_tile_name(key, index) for index in indices])
                    found += await self._checked(key, manifest, indices, values)
            finally:
                await touching
            STORE_READS.labels("hit").inc()
            STORE_READ_BYTES.inc(sum(map(len, found)))
            return manifest, found

    async def discard(self, key: str, tile_count: int) -> None:
        """Removes an embedding that failed its checks."""
        self.invalid_value_count += 1
        STORE_INVALID_VALUES.inc()
        await self._values.delete(_names(key, tile_count))

    async def ping(self) -> None:
        """Raises StoreUnavailable unless the store answers."""
        await self._values.ping()

    async def close(self) -> None:
        await self._values.close()

    async def _manifest(self, key: str, value: Value | None) -> Manifest | None:
        if value is None:
            return None
        try:
            return Manifest.unpack(key, value)
        except EmbeddingInvalid:
            await self.discard(key, 0)
            return None

    async def _touch(self, key: str, manifest: Manifest) -> bool:
        """Whether all of it is there; if not, it is discarded."""
        names = _names(key, manifest.tile_count)
        if await self._values.touch(names, self._seconds) == len(names):
            return True
        # The manifest alone: whoever is writing this embedding anew writes that one last.
        await self._values.delete([_manifest_name(key)])
        return False

    async def _checked(
        self, key: str, manifest: Manifest, indices: Sequence[int], values: Sequence[Value | None]
    ) -> list[memoryview]:
        present = [value for value in values if value is not None]
        if len(present) < len(values):
            STORE_READS.labels("evicted").inc()
            raise EmbeddingNotFound.of([key])

        def check() -> list[memoryview]:
            return [open_tile(key, index, value, manifest) for index, value in zip(indices, present, strict=True)]

        try:
            large = sum(map(len, present)) > INLINE_BYTES
            return await asyncio.to_thread(check) if large else check()
        except EmbeddingInvalid as error:
            await self.discard(key, manifest.tile_count)
            raise EmbeddingNotFound.of([key]) from error


def frame_tile(
    key: str, index: int, rows: bytes | memoryview, manifest: Manifest, *, codec: Codec = Codec.RAW
) -> bytes:
    """One tile as a value. Raises ValueError when the rows are not the manifest's size."""
    if len(rows) != manifest.tile_bytes:
        raise ValueError(f"a tile has {len(rows)} bytes, its manifest says {manifest.tile_bytes}")
    return frame(
        _tile_name(key, index), ValueKind.TILE, rows,
        dtype=manifest.dtype, rows=manifest.rows_per_tile, width=manifest.width, codec=codec,
    )  # fmt: skip


def open_tile(key: str, index: int, value: Value, manifest: Manifest) -> memoryview:
    """The rows of a framed tile, not copied unless compressed. Raises EmbeddingInvalid."""
    header, payload = unframe(_tile_name(key, index), ValueKind.TILE, value)
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
