"""One request end to end: bytes -> hash -> cached? -> decode -> tiles -> visual tokens -> store."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from shared.content import content_digest, content_key
from shared.embedding_store import Manifest, frame_tile
from shared.errors import EmbeddingNotFound, QueueFull
from vision_service.batcher import Batcher
from vision_service.copies import Copies
from vision_service.image import ImageLimits, decode_image
from vision_service.single_flight import SingleFlight
from vision_service.tiles import TilingOptions, cut
from vision_service.video import FrameOptions, VideoLimits, sample_frames

PREPROCESSING_VERSION = "1"
"""Raise it when the same bytes and options give other tiles."""

Source = bytes | str
"""A file, or the id of one that is kept."""


@dataclass(frozen=True)
class EncoderIdentity:
    """What makes embeddings of two deployments different. Part of the embedding key."""

    model: str
    revision: str
    weights: bytes
    """Digest of the vision tensors."""
    share_between_tenants: bool


@dataclass(frozen=True)
class EncoderLimits:
    """What is refused."""

    image: ImageLimits
    video: VideoLimits
    max_queued_decodes: int
    exif_orientation: bool


@dataclass(frozen=True)
class Encoded:
    """Where an embedding is."""

    key: str
    manifest: Manifest
    media_id: str
    cached: bool
    """Whether nothing had to be encoded for this request."""


@dataclass(frozen=True)
class EncoderStatus:
    """What is under way."""

    queued_tile_count: int
    decoding_count: int
    pending_write_bytes: int
    is_degraded: bool


class Encoder:
    """Makes or finds embeddings."""

    def __init__(
        self,
        batcher: Batcher,
        copies: Copies,
        identity: EncoderIdentity,
        limits: EncoderLimits,
        *,
        decode_workers: int,
    ) -> None:
        self._batcher = batcher
        self._copies = copies
        self._identity = identity
        self._limits = limits
        self._decoders = ThreadPoolExecutor(decode_workers, thread_name_prefix="decode")
        self._decoding_count = 0
        self._flights: SingleFlight[Manifest] = SingleFlight()

    @property
    def dtype_name(self) -> str:
        """Dtype of stored embeddings."""
        return str(self._batcher.dtype).removeprefix("torch.")

    def status(self) -> EncoderStatus:
        """What is under way right now."""
        return EncoderStatus(
            queued_tile_count=self._batcher.queued_tile_count,
            decoding_count=self._decoding_count,
            pending_write_bytes=self._copies.pending_bytes,
            is_degraded=self._copies.is_degraded,
        )

    async def encode_image(self, tenant: str, source: Source, tiling: TilingOptions) -> Encoded:
        """Raises ImageUnreadable, ImageTooLarge, MediaExpired, QueueFull."""

        def decode(data: bytes) -> list[np.ndarray]:
            image = decode_image(data, self._limits.image, exif_orientation=self._limits.exif_orientation)
            return [cut(image, tiling)]

        return await self._encode(tenant, source, f"image {tiling} {self._limits.exif_orientation}", decode)

    async def encode_video(self, tenant: str, source: Source, frames: FrameOptions, tiling: TilingOptions) -> Encoded:
        """Raises VideoUnreadable, VideoTooLarge, BadOption, MediaExpired, QueueFull."""

        def decode(data: bytes) -> list[np.ndarray]:
            sampled: list[Image.Image] = sample_frames(data, frames, self._limits.video)
            return [cut(frame, tiling) for frame in sampled]

        return await self._encode(tenant, source, f"video {frames} {tiling}", decode)

    async def put_media(self, tenant: str, data: bytes) -> str:
        """Keeps a file for later; returns its id."""
        return await self._copies.put_media(tenant, await self._digest(tenant, data), data)

    async def read_local(self, key: str) -> tuple[Manifest, list[bytes]]:
        """An embedding from this replica's memory, tiles framed. Raises EmbeddingNotFound."""
        found = await self._copies.read_local(key)
        if found is None:
            raise EmbeddingNotFound.of([key])
        return found

    async def close(self) -> None:
        await self._batcher.close()
        await asyncio.to_thread(self._decoders.shutdown)
        await self._copies.close()

    async def _encode(
        self, tenant: str, source: Source, options: str, decode: Callable[[bytes], list[np.ndarray]]
    ) -> Encoded:
        digest = await self._digest(tenant, source)
        key = self._key(tenant, options, digest)
        manifest = await self._copies.find(key)
        cached = manifest is not None
        if manifest is None:
            data = source if isinstance(source, bytes) else await self._copies.media(tenant, source)
            manifest = await self._flights.run(key, lambda: self._make(key, data, decode))
        # Kept only now: what cannot be decoded is not worth keeping.
        identifier = source if isinstance(source, str) else await self._copies.put_media(tenant, digest, source)
        return Encoded(key, manifest, identifier, cached)

    async def _digest(self, tenant: str, source: Source) -> bytes:
        if isinstance(source, str):
            return await self._copies.media_digest(tenant, source)
        return await asyncio.to_thread(content_digest, source)

    def _key(self, tenant: str, options: str, digest: bytes) -> str:
        identity = self._identity
        scope = "shared" if identity.share_between_tenants else f"tenant {tenant}"
        return content_key(
            "embedding", scope, identity.model, identity.revision, identity.weights, PREPROCESSING_VERSION, options,
            self.dtype_name, digest,
        )  # fmt: skip

    async def _make(self, key: str, data: bytes, decode: Callable[[bytes], list[np.ndarray]]) -> Manifest:
        parts = await self._decode(data, decode)
        rows = await self._batcher.encode(np.concatenate(parts))
        counts = tuple(len(part) for part in parts)
        manifest = Manifest(rows.shape[1], rows.shape[2], self.dtype_name, counts)
        tiles = await asyncio.to_thread(lambda: [frame_tile(_raw(tile), manifest) for tile in rows])
        await self._copies.put(key, manifest, tiles)
        return manifest

    async def _decode(self, data: bytes, decode: Callable[[bytes], list[np.ndarray]]) -> list[np.ndarray]:
        if self._decoding_count >= self._limits.max_queued_decodes:
            raise QueueFull(f"{self._decoding_count} files wait to be decoded already", retry_after_seconds=2.0)
        self._decoding_count += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._decoders, decode, data)
        finally:
            self._decoding_count -= 1


def _raw(tile: torch.Tensor) -> memoryview:
    """The bytes of a tensor, not copied."""
    return tile.contiguous().view(torch.uint8).numpy().data.cast("B")
