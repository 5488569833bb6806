"""One request end to end: bytes -> hash -> cached? -> decode -> tiles -> visual tokens -> store."""

import asyncio
import logging
from dataclasses import dataclass

import torch

from internvl.errors import EmbeddingInvalid, EmbeddingNotFound, QueueFull
from shared.content import content_digest, content_key
from shared.serving.tracing import span
from shared.store.embedding_store import Manifest, frame_tile
from shared.store.framing import Codec
from vision_service.batcher import Batcher
from vision_service.copies.copies import Copies
from vision_service.copies.memory_copies import HeldEmbedding
from vision_service.copies.replica_flight import ReplicaFlight
from vision_service.copies.single_flight import SingleFlight
from vision_service.decoder.job import ImageJob, Job, VideoJob
from vision_service.decoder.pool import Decoders
from vision_service.decoder.process import Decoded
from vision_service.encoder_status import EncoderStatus
from vision_service.image.decoding import ImageLimits
from vision_service.image.pictures import Pictures
from vision_service.metrics import DECODE_SECONDS, EMBEDDINGS
from vision_service.tiles import TilingOptions
from vision_service.video.sampling import FrameOptions, VideoLimits

log = logging.getLogger(__name__)
_UPLOAD_WAIT_SECONDS = 10.0
PREPROCESSING_VERSION = "2"
"""Raise it when the same bytes and options give other tiles."""

Source = bytes | str
"""A file, or the id of one that is kept."""


@dataclass(frozen=True)
class EncoderIdentity:
    """Identity of the embeddings that a deployment makes. Part of the embedding key."""

    model: str
    revision: str
    weights: bytes
    """Digest of the vision tensors."""
    share_between_tenants: bool


@dataclass(frozen=True)
class EncoderLimits:
    """Limits of a file and of the queue of files."""

    image: ImageLimits
    video: VideoLimits
    max_queued_decodes: int
    pictures: Pictures


@dataclass(frozen=True)
class Encoded:
    """An embedding that can be read from the store."""

    key: str
    manifest: Manifest
    media_id: str
    cached: bool
    """Whether nothing had to be encoded for this request."""


class Encoder:
    """Makes or finds embeddings."""

    def __init__(
        self,
        decoders: Decoders,
        batcher: Batcher,
        copies: Copies,
        identity: EncoderIdentity,
        limits: EncoderLimits,
        flights: ReplicaFlight[Manifest],
        *,
        codec: Codec = Codec.RAW,
    ) -> None:
        self._batcher = batcher
        self._copies = copies
        self._identity = identity
        self._limits = limits
        self._decoders = decoders
        self._decoding_count = 0
        self._flights: SingleFlight[Manifest] = SingleFlight()
        self._replica_flights = flights
        self._codec = codec

    @property
    def dtype_name(self) -> str:
        """Dtype of stored embeddings."""
        return str(self._batcher.dtype).removeprefix("torch.")

    def status(self) -> EncoderStatus:
        """Work under way."""
        return EncoderStatus(
            queued_tile_count=self._batcher.queued_tile_count,
            decoding_count=self._decoding_count,
            pending_write_bytes=self._copies.pending_bytes,
            is_degraded=self._copies.is_degraded,
            batch_age_seconds=self._batcher.batch_age_seconds,
        )

    async def encode_image(self, tenant: str, source: Source, tiling: TilingOptions) -> Encoded:
        """Raises ImageUnreadable, ImageTooLarge, MediaExpired, ResourceExhausted."""
        return await self._encode(tenant, source, ImageJob(tiling, self._limits.image, self._limits.pictures))

    async def encode_video(self, tenant: str, source: Source, frames: FrameOptions, tiling: TilingOptions) -> Encoded:
        """Raises VideoUnreadable, VideoTooLarge, BadOption, MediaExpired, ResourceExhausted."""
        return await self._encode(tenant, source, VideoJob(tiling, frames, self._limits.video))

    async def put_media(self, tenant: str, data: bytes) -> str:
        """Keeps a file for later; returns its id when every replica knows it, or this one alone does after a while."""
        identifier, written = await self._copies.media.keep(tenant, await self._digest(tenant, data), data)
        await asyncio.wait([written], timeout=_UPLOAD_WAIT_SECONDS)
        return identifier

    def read_local(self, key: str) -> HeldEmbedding:
        """An embedding from this replica's memory, tiles framed. Raises EmbeddingNotFound."""
        found = self._copies.embeddings.in_memory(key)
        if found is None:
            raise EmbeddingNotFound.of([key])
        return found

    async def failed(self) -> str:
        """Returns the cause when a device hangs: the process should be replaced. Requests have failed."""
        return await self._batcher.failed()

    async def close(self) -> None:
        await self._batcher.close()
        await self._decoders.close()
        await self._replica_flights.close()
        await self._copies.close()

    async def _encode(self, tenant: str, source: Source, job: Job) -> Encoded:
        digest = await self._digest(tenant, source)
        key = self._key(tenant, job.options, digest)
        manifest = await self._copies.embeddings.find(key)
        EMBEDDINGS.labels("miss" if manifest is None else "hit").inc()
        if manifest is not None:
            return Encoded(key, manifest, self._used(tenant, source, digest), cached=True)
        data = source if isinstance(source, bytes) else await self._copies.media.read(tenant, source)
        manifest = await self._flights.run(key, lambda: self._make_once(key, data, job))
        # Kept only now: what cannot be decoded is not worth keeping.
        identifier, _ = await self._copies.media.keep(tenant, digest, data)
        return Encoded(key, manifest, identifier, cached=False)

    def _used(self, tenant: str, source: Source, digest: bytes) -> str:
        """The id of a file that was looked at again."""
        if isinstance(source, bytes):
            return self._copies.media.refresh(tenant, digest, source)
        self._copies.media.touch(source)
        return source

    async def _digest(self, tenant: str, source: Source) -> bytes:
        if isinstance(source, str):
            return await self._copies.media.digest(tenant, source)
        return await asyncio.to_thread(content_digest, source)

    def _key(self, tenant: str, options: str, digest: bytes) -> str:
        identity = self._identity
        scope = "shared" if identity.share_between_tenants else f"tenant {tenant}"
        return content_key(
            "embedding", scope, identity.model, identity.revision, identity.weights, PREPROCESSING_VERSION, options,
            self.dtype_name, digest,
        )  # fmt: skip

    async def _make_once(self, key: str, data: bytes, job: Job) -> Manifest:
        """Makes an embedding unless it has been made since it was looked for, or another replica is making it."""
        return await self._replica_flights.run(
            key, lambda: self._make(key, data, job), lambda: self._copies.embeddings.find(key)
        )

    async def _make(self, key: str, data: bytes, job: Job) -> tuple[Manifest, "asyncio.Future[bool]"]:
        decoded = await self._decode(data, job)
        with span("encode", tiles=len(decoded.tiles)):
            rows = await self._batcher.encode(decoded.tiles)
        manifest = Manifest(
            rows.shape[1], rows.shape[2], self.dtype_name, decoded.counts, decoded.source_count, decoded.size
        )
        tiles = await asyncio.to_thread(_framed, key, rows, manifest, self._codec)
        log.info("encoded", extra={"tile_count": manifest.tile_count, "embedding": key[:12]})
        with span("store", bytes=sum(map(len, tiles))):
            return manifest, await self._copies.embeddings.keep(key, manifest, tiles)

    async def _decode(self, data: bytes, job: Job) -> Decoded:
        if self._decoding_count >= self._limits.max_queued_decodes:
            raise QueueFull(f"{self._decoding_count} files wait to be decoded already", retry_after_seconds=2.0)
        self._decoding_count += 1
        try:
            with span("decode file", bytes=len(data)), DECODE_SECONDS.time():
                return await self._decoders.decode(job, data)
        finally:
            self._decoding_count -= 1


def _framed(key: str, rows: torch.Tensor, manifest: Manifest, codec: Codec) -> list[bytes]:
    """(N, R, D) as values. Raises EmbeddingInvalid: what is not finite would fail every request that finds it."""
    lowest, highest = rows.aminmax()
    if not bool(torch.isfinite(lowest) & torch.isfinite(highest)):
        raise EmbeddingInvalid("the model produced values that are not finite")
    return [frame_tile(key, index, _raw(tile), manifest, codec=codec) for index, tile in enumerate(rows)]


def _raw(tile: torch.Tensor) -> memoryview:
    """The bytes of a tensor, not copied."""
    return tile.contiguous().view(torch.uint8).numpy().data.cast("B")
