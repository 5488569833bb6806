"""Work to do on a file: decode it and cut it into tiles. Travels as a line of JSON.

Shapes: N tiles of one part (an image, or a frame), S the tile's side in pixels.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

from internvl.errors import ImageTooLarge, ImageUnreadable, InvalidRequest, VideoTooLarge, VideoUnreadable
from vision_service.image.decoding import ImageLimits, decode_image, page_count
from vision_service.image.pictures import Pictures
from vision_service.tiles import TilingOptions, cut
from vision_service.video.opening import sample_frames
from vision_service.video.sampling import FrameOptions, VideoLimits


@dataclass(frozen=True)
class Parts:
    """Result of a job."""

    source_count: int
    """Pages of the image file, or frames of the video, whether they are among the parts or not."""
    tiles: Iterator[np.ndarray]
    """uint8 (N, S, S, 3) of each part."""
    size: tuple[int, int] = (0, 0)
    """Width and height of an image as the model sees it, in pixels."""


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
    def parts(self, data: bytes) -> Parts:
        """The file's parts, decoded as they are taken. Raises InvalidRequest, then and while they are taken."""

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
    """An image."""

    limits: ImageLimits
    pictures: Pictures

    @property
    def options(self) -> str:
        return f"image {self.tiling} {self.pictures}"

    @property
    def max_part_count(self) -> int:
        return 1

    def parts(self, data: bytes) -> Parts:
        image = decode_image(data, self.limits, self.pictures)
        return Parts(page_count(data), iter([cut(image, self.tiling)]), image.size)

    def unreadable(self) -> InvalidRequest:
        return ImageUnreadable("the image is damaged: its decoder gave up", field="data")

    def too_large(self) -> InvalidRequest:
        return ImageTooLarge("the image needs more memory than a decoder may have", field="data")


@dataclass(frozen=True)
class VideoJob(Job):
    """A video."""

    frames: FrameOptions
    limits: VideoLimits

    @property
    def options(self) -> str:
        return f"video {self.frames} {self.tiling}"

    @property
    def max_part_count(self) -> int:
        return self.frames.frame_count

    def parts(self, data: bytes) -> Parts:
        sampled = sample_frames(data, self.frames, self.limits)
        return Parts(sampled.source_count, self._cut(sampled.images))

    def _cut(self, images: Iterator[Image.Image]) -> Iterator[np.ndarray]:
        """A frame that comes several times in a row is cut once."""
        last, tiles = None, None
        for image in images:
            if tiles is None or image is not last:
                last, tiles = image, cut(image, self.tiling)
            yield tiles

    def unreadable(self) -> InvalidRequest:
        return VideoUnreadable("the video is damaged: its decoder gave up", field="data")

    def too_large(self) -> InvalidRequest:
        return VideoTooLarge("the video needs more memory than a decoder may have", field="data")


def job_from_line(line: bytes) -> tuple[Job, int]:
    """The inverse of `Job.to_line`."""
    fields = json.loads(line)
    tiling = TilingOptions(**fields["tiling"])
    if fields["kind"] == ImageJob.__name__:
        image = ImageJob(tiling, ImageLimits(**fields["limits"]), Pictures(fields["pictures"]))
        return image, fields["size_bytes"]
    video = VideoJob(tiling, FrameOptions(**fields["frames"]), VideoLimits(**fields["limits"]))
    return video, fields["size_bytes"]
