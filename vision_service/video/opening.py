"""Bytes to sampled frames: the reader that is right for the file, at the reference's indices."""

from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from internvl.errors import VideoTooLarge, VideoUnreadable
from vision_service import file_kinds
from vision_service.file_kinds import FileKind, Medium, file_kind
from vision_service.video.animation_reader import AnimationReader
from vision_service.video.decord_reader import DecordReader
from vision_service.video.pyav_reader import PyAvReader
from vision_service.video.reader import FrameReader
from vision_service.video.sampling import FrameOptions, VideoLimits, wanted_indices

# FFmpeg is told what to read: left to guess, it also takes playlists and session descriptions, which name other files.
_DEMUXERS = {
    file_kinds.MP4: "mov,mp4,m4a,3gp,3g2,mj2",
    file_kinds.MATROSKA: "matroska,webm",
    file_kinds.AVI: "avi",
    file_kinds.FLV: "flv",
    file_kinds.MPEG_PS: "mpeg",
    file_kinds.MPEG_TS: "mpegts",
    file_kinds.MPEG_ES: "mpegvideo",
    file_kinds.H264: "h264",
    file_kinds.HEVC: "hevc",
    file_kinds.OGG: "ogg",
}
_DECORD_CAN = (file_kinds.MP4, file_kinds.MATROSKA)
_ANIMATIONS = (file_kinds.GIF, file_kinds.WEBP, file_kinds.PNG)
FORMATS = (*(kind.name for kind in _DEMUXERS), "animated GIF, WebP or PNG")


@dataclass(frozen=True)
class SampledFrames:
    """Frames of one video."""

    source_count: int
    """Frames that the file shows in all."""
    images: Iterator[Image.Image]
    """RGB, one at a time; a frame that is wanted several times in a row is the same object."""


def sample_frames(data: bytes, options: FrameOptions, limits: VideoLimits) -> SampledFrames:
    """The frames that `options` ask for.

    Raises VideoUnreadable, VideoTooLarge, BadOption for a range that starts past the end, MemoryError; those for single
    frames while `images` are taken.
    """
    if len(data) > limits.max_bytes:
        raise VideoTooLarge(f"a video of {len(data)} bytes; at most {limits.max_bytes} are accepted", field="data")
    reader = open_reader(data, limits)
    total = reader.frame_count
    rate = reader.frames_per_second() if options.has_range else float(total)  # without a range, any will do
    indices = wanted_indices(options, frames_per_second=rate, frame_count=total)
    distinct = sorted(set(indices))
    limits.check_sampled(*reader.size, len(distinct))
    return SampledFrames(total, _repeated(indices, _checked(reader.frames(distinct), limits)))


def open_reader(data: bytes, limits: VideoLimits) -> FrameReader:
    """Raises VideoUnreadable, VideoTooLarge, MemoryError."""
    kind = file_kind(data)
    if kind in _ANIMATIONS:
        return AnimationReader(data, kind.name, limits)
    demuxer = None if kind is None else _DEMUXERS.get(kind)
    if demuxer is None:
        raise _refused(kind)
    reader = PyAvReader(data, demuxer, limits)
    if reader.frame_count < 1:
        raise VideoUnreadable("the video has no frames", field="data")
    return (kind in _DECORD_CAN and DecordReader.agreeing(data, reader)) or reader


def _checked(images: Iterator[Image.Image], limits: VideoLimits) -> Iterator[Image.Image]:
    """Frames may be larger than the header says."""
    pixel_count = 0
    for image in images:
        limits.check_frame(*image.size)
        pixel_count += image.width * image.height
        limits.check_sampled(pixel_count, 1, 1)
        yield image


def _repeated(indices: list[int], images: Iterator[Image.Image]) -> Iterator[Image.Image]:
    """An image for each of the ascending indices, from one for each distinct index."""
    image, last = None, None
    for index in indices:
        if image is None or index != last:
            image, last = next(images), index
        yield image


def _refused(kind: FileKind | None) -> VideoUnreadable:
    formats = ", ".join(FORMATS)
    match kind:
        case None:
            message = f"the file is not a video in one of the formats {formats}"
        case FileKind(medium=Medium.IMAGE):
            message = f"the file is {kind.name}, an image: send it as an image"
        case _:
            message = f"the file is {kind.name}, not a video in one of the formats {formats}: convert it to MP4"
    return VideoUnreadable(message, field="data")
