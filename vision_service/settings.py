"""Settings of the vision service: `internvl-vision --help`, or INTERNVL_VISION_... in the environment."""

import socket
from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.serving.settings import MEBIBYTE, ModelSettings, device_present
from vision_service.image.pictures import Pictures


class VisionSettings(ModelSettings):
    """Settings of the vision service."""

    model_config = SettingsConfigDict(env_prefix="INTERNVL_VISION_")
    service: ClassVar[str] = "vision"

    port: int = 50051
    """Port to listen on; 0 lets the system choose."""
    advertised_host: str = ""
    """Name or address at which LLM pods reach this replica; default: `host`, or this machine's name for 0.0.0.0."""
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda, or several, cuda:0,cuda:1: each with the whole model."""
    threads: int = 0
    """CPU threads of the model; 0 leaves it to PyTorch."""
    max_image_bytes: int = 64 * MEBIBYTE
    """Largest image file."""
    max_image_pixels: int = 89_000_000
    """Most pixels of an image; checked before it is decoded."""
    max_image_side: int = 65_535
    """Longest side of an image in pixels."""
    pictures: Pictures = Pictures.AS_SEEN
    """as_seen: alpha over white, 16 bits scaled to 8, turned as EXIF says; reference: none of it, as OpenGVLab does."""
    max_tile_count: int = Field(default=40, ge=1)
    """Most tiles that a request may have an image cut into; one that names no count gets the checkpoint's, 12."""
    max_video_bytes: int = 512 * MEBIBYTE
    """Largest video file."""
    max_video_frames: int = 128
    """Most frames sampled from a video."""
    max_video_pixels: int = 1_100_000_000
    """Most pixels of all frames sampled from a video; checked before they are decoded. 128 of 3840x2160 fit."""
    default_video_frames: int = 8
    """Frames sampled from a video whose request names no count."""
    decode_workers: int = Field(default=2, ge=1)
    """Files decoded and cut at once, each in a process of its own of about 50 MiB."""
    decode_seconds: float = Field(default=30.0, gt=0)
    """How long one file may take to be decoded and cut; beyond that, RESOURCE_EXHAUSTED."""
    decode_memory_bytes: int = Field(default=2048 * MEBIBYTE, ge=256 * MEBIBYTE)
    """Memory for one file that is decoded; what needs more is refused. About three times the largest video file."""
    max_queued_decodes: int = 256
    """Most files that are or wait to be decoded; beyond that, RESOURCE_EXHAUSTED."""
    tiles_per_batch: int = Field(default=0, ge=0)
    """Most tiles of one pass through the model, for which a new image has to wait; 0: 4 on CPU, else 16."""
    batch_seconds: float = Field(default=120.0, gt=0)
    """How long one pass may take, a device's first five times as long; beyond that it hangs and the process ends."""
    max_queued_tiles: int = 2048
    """Most tiles waiting for the model; beyond that, RESOURCE_EXHAUSTED."""
    share_between_tenants: bool = False
    """Let tenants share embeddings of equal images. Response times then tell whether an image was seen before."""
    embedding_seconds: float = 24 * 3600.0
    """Life of an embedding since its last use."""
    media_seconds: float = 7 * 24 * 3600.0
    """Life of a image or video since its last use."""
    local_copy_bytes: int = 1024 * MEBIBYTE
    """Memory for this replica's own copies of embeddings and media."""
    write_behind_bytes: int = 256 * MEBIBYTE
    """Most bytes on their way to Redis behind an answer; beyond that, answers wait up to 2 s, then go without."""
    compress_embeddings: bool = False
    """Store embeddings compressed, without loss: a third smaller in bfloat16, and slower to write and read."""
    replica_wait_seconds: float = 20.0
    """How long to wait for another replica that encodes the same image, before encoding it here as well."""

    def device_names(self, *, cuda: bool) -> list[str]:
        """The devices to use, where `cuda` says whether there is one. Raises ValueError for one that is not there."""
        return [device_present(name.strip(), cuda=cuda) for name in self.device.split(",")]

    def batch_size(self, device_type: str) -> int:
        """Tiles of one pass on a device of this type: a CPU takes as long for each in a batch of any size."""
        return self.tiles_per_batch or (4 if device_type == "cpu" else 16)

    def advertised_address(self, port: int) -> str:
        """host:port for EmbeddingReference.holder."""
        host = self.advertised_host or (socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host)
        return f"{host}:{port}"
