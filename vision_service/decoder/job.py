"""What is to be done with a file: decode it and cut it into tiles. Travels as a line of JSON.

Shapes: N tiles of one part (a picture, or a frame), S the tile's side in pixels.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from internvl.errors import ImageTooLarge, ImageUnreadable, InvalidRequest, VideoTooLarge, VideoUnreadable
from vision_service.image import ImageLimits, decode_image
from vision_service.tiles import TilingOptions, cut
from vision_service.video import FrameOptions, VideoLimits, sample_frames


@dataclass(frozen=True)
class Job(ABC):
    """One file's work. `str(job.options)` is part of the embedding key."""

    tiling: TilingOptions

    @property
    @abstractmethod
    def options(self) -> str:
        """Everything that decides about the tiles, but the file."""

    @property
    @abstractmethod
    def max_part_count(self) -> int:
        """Most parts that can come of it."""

    @abstractmethod
    def parts(self, data: bytes) -> Iterator[np.ndarray]:
        """uint8 (N, S, S, 3) of each part. Raises InvalidRequest."""

    @abstractmethod
    def unreadable(self) -> InvalidRequest:
        """The error for a file that a decoder died of."""

    @abstractmethod
    def too_large(self) -> InvalidRequest:
        """The error for a file that needs more memory than a decoder may have."""

    def to_line(self, size_bytes: int) -> bytes:
        """For a file of this size."""
        return json.dumps({"kind": type(self).__name__, "size_bytes": size_bytes, **asdict(self)}).encode() + b"\n"


@dataclass(frozen=True)
class ImageJob(Job):
    """A picture."""

    limits: ImageLimits
    exif_orientation: bool = False

    @property
    def options(self) -> str:
        return f"image {self.tiling} {self.exif_orientation}"

    @property
    def max_part_count(self) -> int:
        return 1

    def parts(self, data: bytes) -> Iterator[np.ndarray]:
        yield cut(decode_image(data, self.limits, exif_orientation=self.exif_orientation), self.tiling)

    def unreadable(self) -> InvalidRequest:
        return ImageUnreadable("the picture is damaged: its decoder gave up", field="data")

    def too_large(self) -> InvalidRequest:
        return ImageTooLarge("the picture needs more memory than a decoder may have", field="data")


@dataclass(frozen=True)
class VideoJob(Job):
    """A clip."""

    frames: FrameOptions
    limits: VideoLimits

    @property
    def options(self) -> str:
        return f"video {self.frames} {self.tiling}"

    @property
    def max_part_count(self) -> int:
        return self.frames.frame_count

    def parts(self, data: bytes) -> Iterator[np.ndarray]:
        return (cut(frame, self.tiling) for frame in sample_frames(data, self.frames, self.limits))

    def unreadable(self) -> InvalidRequest:
        return VideoUnreadable("the clip is damaged: its decoder gave up", field="data")

    def too_large(self) -> InvalidRequest:
        return VideoTooLarge("the clip needs more memory than a decoder may have", field="data")


def job_from_line(line: bytes) -> tuple[Job, int]:
    """The inverse of `Job.to_line`."""
    fields = json.loads(line)
    tiling = TilingOptions(**fields["tiling"])
    if fields["kind"] == ImageJob.__name__:
        picture = ImageJob(tiling, ImageLimits(**fields["limits"]), fields["exif_orientation"])
        return picture, fields["size_bytes"]
    clip = VideoJob(tiling, FrameOptions(**fields["frames"]), VideoLimits(**fields["limits"]))
    return clip, fields["size_bytes"]
