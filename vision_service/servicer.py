"""VisionService: protobuf in, protobuf out. Only translates, and checks options."""

import math
from collections.abc import AsyncIterator
from typing import Any

import grpc

from internvl.common.v1 import visual_pb2
from internvl.errors import BadOption
from internvl.transport.chunks import joined
from internvl.vision.v1 import vision_pb2, vision_pb2_grpc
from shared.checkpoint.config import ModelConfig
from vision_service.encoder import Encoded, Encoder, Source
from vision_service.settings import VisionSettings
from vision_service.tiles import TilingOptions
from vision_service.video.sampling import FrameOptions

MAX_TENANT_CHARS = 256


class VisionServicer(vision_pb2_grpc.VisionServiceServicer):
    """Serves one encoder."""

    def __init__(
        self,
        encoder: Encoder,
        config: ModelConfig,
        info: visual_pb2.ModelInfo,
        settings: VisionSettings,
        *,
        holder: str,
    ) -> None:
        self._encoder = encoder
        self._config = config
        self._info = info
        self._settings = settings
        self._holder = holder

    async def Encode(  # noqa: N802
        self, request: vision_pb2.EncodeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> vision_pb2.EncodeResponse:
        tiling = self._tiling(request, self._config.max_tile_count)
        encoded = await self._encoder.encode_image(_tenant(request.tenant), _source(request), tiling)
        return vision_pb2.EncodeResponse(
            embedding=self._reference(encoded),
            media_id=encoded.media_id,
            cached=encoded.cached,
            source_count=encoded.manifest.source_count,
            width=encoded.manifest.size[0],
            height=encoded.manifest.size[1],
        )

    async def EncodeVideo(  # noqa: N802
        self, request: vision_pb2.EncodeVideoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> vision_pb2.EncodeVideoResponse:
        tiling, frames = self._tiling(request, 1), self._frames(request.frames)
        encoded = await self._encoder.encode_video(_tenant(request.tenant), _source(request), frames, tiling)
        return vision_pb2.EncodeVideoResponse(
            embedding=self._reference(encoded),
            media_id=encoded.media_id,
            cached=encoded.cached,
            frame_tile_counts=encoded.manifest.part_tile_counts,
            source_count=encoded.manifest.source_count,
        )

    async def PutMedia(  # noqa: N802
        self, request_iterator: AsyncIterator[vision_pb2.PutMediaRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> vision_pb2.PutMediaResponse:
        first = await anext(request_iterator, None)
        if first is None or not first.HasField("header"):
            raise BadOption("the first message must be the header", field="header")
        header = first.header
        chunks = (request.chunk async for request in request_iterator)
        limit = self._settings.max_video_bytes
        data = await joined(chunks, size_bytes=header.size_bytes, max_bytes=limit)
        return vision_pb2.PutMediaResponse(media_id=await self._encoder.put_media(_tenant(header.tenant), data))

    async def ReadEmbedding(  # noqa: N802
        self, request: vision_pb2.ReadEmbeddingRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[vision_pb2.ReadEmbeddingResponse]:
        held = self._encoder.read_local(request.key)
        for value in (held.manifest.pack(request.key), *held.tiles):
            yield vision_pb2.ReadEmbeddingResponse(value=value)

    async def GetModelInfo(  # noqa: N802
        self, request: vision_pb2.GetModelInfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> vision_pb2.GetModelInfoResponse:
        return vision_pb2.GetModelInfoResponse(info=self._info)

    async def GetStatus(  # noqa: N802
        self, request: vision_pb2.GetStatusRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> vision_pb2.GetStatusResponse:
        status = self._encoder.status()
        return vision_pb2.GetStatusResponse(
            queued_tile_count=status.queued_tile_count,
            decoding_count=status.decoding_count,
            pending_write_bytes=status.pending_write_bytes,
            is_degraded=status.is_degraded,
            batch_age_seconds=status.batch_age_seconds,
        )

    def _tiling(self, request: vision_pb2.EncodeRequest | vision_pb2.EncodeVideoRequest, default: int) -> TilingOptions:
        most = default
        if request.HasField("max_tile_count"):
            most = _in_range(request.max_tile_count, 1, self._settings.max_tile_count, "max_tile_count")
        return TilingOptions(
            max_tile_count=most,
            min_tile_count=min(self._config.min_tile_count, most),
            use_thumbnail=self._config.use_thumbnail,
            tile_size=self._config.tile_size,
        )

    def _frames(self, options: visual_pb2.VideoOptions) -> FrameOptions:
        count = self._settings.default_video_frames
        if options.HasField("frame_count"):
            count = _in_range(options.frame_count, 1, self._settings.max_video_frames, "frames.frame_count")
        start = options.start_seconds if options.HasField("start_seconds") else None
        end = options.end_seconds if options.HasField("end_seconds") else None
        for name, value in (("start_seconds", start), ("end_seconds", end)):
            if value is not None and not (math.isfinite(value) and 0 <= value <= 100_000):
                raise BadOption(f"{name} must be 0 to 100000, got {value:g}", field=f"frames.{name}")
        if start is not None and end is not None and start >= end:
            raise BadOption(f"the range ends at {end:g} s, before it starts", field="frames.end_seconds")
        return FrameOptions(count, start, end)

    def _reference(self, encoded: Encoded) -> visual_pb2.EmbeddingReference:
        return visual_pb2.EmbeddingReference(
            key=encoded.key,
            tile_count=encoded.manifest.tile_count,
            tokens_per_tile=encoded.manifest.rows_per_tile,
            holder=self._holder,
        )


def _source(request: vision_pb2.EncodeRequest | vision_pb2.EncodeVideoRequest) -> Source:
    # Read once: each look at a bytes field of a message copies it.
    source: Source = request.media_id if request.WhichOneof("source") == "media_id" else request.data
    if not source:
        raise BadOption("neither a file nor an id", field="data")
    return source


def _tenant(tenant: str) -> str:
    if not 0 < len(tenant) <= MAX_TENANT_CHARS:
        raise BadOption(f"tenant must have 1 to {MAX_TENANT_CHARS} characters", field="tenant")
    return tenant


def _in_range(value: int, low: int, high: int, field: str) -> int:
    if not low <= value <= high:
        raise BadOption(f"{field} must be {low} to {high}, got {value}", field=field)
    return value
