"""Puts the vision service together and runs it."""

import torch

from internvl.vision.v1 import vision_pb2_grpc
from shared.checkpoint.config import ModelConfig
from shared.checkpoint.info import model_info
from shared.checkpoint.weights import VISION_PREFIXES, Checkpoint, resolve_folder
from shared.serving.metrics import collected
from shared.serving.rpc import Server
from shared.serving.service import run_service
from shared.serving.telemetry import LoadingLog
from shared.store.embedding_store import EmbeddingStore
from shared.store.framing import Codec
from shared.store.media_store import MediaStore
from shared.store.redis_store import RedisStore
from vision_service.batcher import Batcher
from vision_service.copies.copies import Copies
from vision_service.copies.memory_copies import MemoryCopies
from vision_service.copies.replica_flight import ReplicaFlight
from vision_service.copies.write_behind import WriteBehind
from vision_service.decoder.pool import DecoderPool
from vision_service.decoder.process import ProcessLimits
from vision_service.encoder import Encoder, EncoderIdentity, EncoderLimits
from vision_service.image.decoding import ImageLimits
from vision_service.metrics import EncoderCollector
from vision_service.model.loading import load_visual_encoder
from vision_service.model.tower import VisualEncoder
from vision_service.servicer import VisionServicer
from vision_service.settings import VisionSettings
from vision_service.video.sampling import VideoLimits


def main() -> None:
    """Runs the service until it is stopped."""
    run_service(VisionSettings, serve)


async def serve(settings: VisionSettings) -> None:
    """Loads, serves, drains."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    server = Server(settings)
    checkpoint = Checkpoint.from_folder(resolve_folder(settings.model, settings.revision))
    config = ModelConfig.from_folder(checkpoint.folder)
    encoder = await _start_encoder(settings, checkpoint, _load_models(settings, checkpoint, config))
    info = model_info(settings, checkpoint, config)
    servicer = VisionServicer(encoder, config, info, settings, holder=settings.advertised_address(server.port))
    vision_pb2_grpc.add_VisionServiceServicer_to_server(servicer, server.grpc)
    try:
        with collected(EncoderCollector(encoder.status)):
            await server.run("internvl.vision.v1.VisionService")
    finally:
        await encoder.close()


def _load_models(settings: VisionSettings, checkpoint: Checkpoint, config: ModelConfig) -> list[VisualEncoder]:
    """One on each device."""
    models = []
    for name in settings.device_names(cuda=torch.cuda.is_available()):
        device = torch.device(name)
        dtype = getattr(torch, settings.dtype_name(device.type))
        progress = LoadingLog(f"vision model on {name}")
        models.append(load_visual_encoder(checkpoint, config, device=device, dtype=dtype, progress=progress))
    if len({next(model.parameters()).dtype for model in models}) > 1:
        raise ValueError(f"the devices {settings.device} compute in different dtypes: set dtype")
    return models


async def _start_encoder(settings: VisionSettings, checkpoint: Checkpoint, models: list[VisualEncoder]) -> Encoder:
    redis = RedisStore(settings.redis_url.get_secret_value())
    copies = Copies(
        MemoryCopies(
            settings.local_copy_bytes,
            embedding_seconds=settings.embedding_seconds,
            media_seconds=settings.media_seconds,
        ),
        EmbeddingStore(redis, seconds=settings.embedding_seconds),
        MediaStore(redis, seconds=settings.media_seconds),
        WriteBehind(settings.write_behind_bytes),
    )
    batch_size = settings.batch_size(next(models[0].parameters()).device.type)
    limits = ProcessLimits(settings.decode_seconds, settings.decode_memory_bytes)
    return Encoder(
        await DecoderPool.started(settings.decode_workers, limits),
        Batcher(models, tiles_per_batch=batch_size, max_queued_tiles=settings.max_queued_tiles),
        copies,
        EncoderIdentity(
            model=settings.public_model_name,
            revision=settings.revision,
            weights=checkpoint.content_digest(*VISION_PREFIXES),
            share_between_tenants=settings.share_between_tenants,
        ),
        EncoderLimits(
            image=ImageLimits(settings.max_image_bytes, settings.max_image_pixels, settings.max_image_side),
            video=VideoLimits(settings.max_video_bytes, settings.max_image_pixels, settings.max_video_pixels),
            max_queued_decodes=settings.max_queued_decodes,
            pictures=settings.pictures,
        ),
        ReplicaFlight(redis, wait_seconds=settings.replica_wait_seconds),
        codec=Codec.PLANES if settings.compress_embeddings else Codec.RAW,
    )
