"""Bytes to sampled frames: step 2 of the data's path for clips."""

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import decord
import numpy as np
from PIL import Image

from internvl.errors import BadOption, VideoTooLarge, VideoUnreadable

Result = TypeVar("Result")
CONTAINERS = ("MP4", "MOV", "Matroska", "WebM", "AVI", "FLV", "MPEG-PS")
_DAMAGED = "the clip is cut off or damaged"


@dataclass(frozen=True)
class FrameOptions:
    """Which frames of a clip. Part of the embedding key."""

    frame_count: int
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclass(frozen=True)
class VideoLimits:
    """What is refused before frames are decoded."""

    max_bytes: int
    max_pixels: int
    """Of one frame."""


def frame_indices(options: FrameOptions, *, frames_per_second: float, last_index: int) -> list[int]:
    """The middles of `frame_count` equal segments of the range, as `get_index` of the model card computes them.

    Short clips repeat frames. Indices may lie past `last_index` when the whole range does.
    """
    start_seconds = -100_000.0 if options.start_seconds is None else options.start_seconds
    end_seconds = 100_000.0 if options.end_seconds is None else options.end_seconds
    start = max(0, round(start_seconds * frames_per_second))
    end = min(round(end_seconds * frames_per_second), last_index)
    segment = float(end - start) / options.frame_count
    return [int(start + segment / 2 + np.round(segment * index)) for index in range(options.frame_count)]


def sample_frames(data: bytes, options: FrameOptions, limits: VideoLimits) -> Iterator[Image.Image]:
    """The frames as RGB images, one at a time.

    Raises VideoUnreadable, VideoTooLarge, BadOption for a range outside the clip, MemoryError.
    """
    if len(data) > limits.max_bytes:
        raise VideoTooLarge(f"a clip of {len(data)} bytes; at most {limits.max_bytes} are accepted", field="data")
    if not is_container(data):
        raise VideoUnreadable(f"not a clip in one of the formats {', '.join(CONTAINERS)}", field="data")
    reader = _read("not a clip that can be read", lambda: decord.VideoReader(io.BytesIO(data), num_threads=1))
    total = len(reader)
    if total < 1:
        raise VideoUnreadable("the clip has no frames", field="data")
    height, width = _read(_DAMAGED, lambda: reader[0].shape[:2])
    if width * height > limits.max_pixels:
        raise VideoTooLarge(
            f"frames of {width}x{height} pixels; at most {limits.max_pixels} are accepted", field="data"
        )
    rate = float(_read(_DAMAGED, reader.get_avg_fps))
    if not 0 < rate < math.inf:
        raise VideoUnreadable("the clip does not say how many frames a second has", field="data")
    indices = frame_indices(options, frames_per_second=rate, last_index=total - 1)
    if not all(0 <= index < total for index in indices):
        raise BadOption(f"the range lies outside the clip, which has {total} frames", field="frames")
    for index in indices:
        yield _read(_DAMAGED, lambda: _image(reader[index].asnumpy()))  # noqa: B023 - called at once


def _image(frame: np.ndarray) -> Image.Image:
    """Of (H, W, 3); in a narrow frame decord leaves each row's padding, and counts it as more channels."""
    height, width, _ = frame.shape
    rows = frame.reshape(height, -1)[:, : 3 * width]
    return Image.fromarray(np.ascontiguousarray(rows).reshape(height, width, 3))


def is_container(data: bytes) -> bool:
    """Whether this begins as one of CONTAINERS does.

    A decoder that is left to guess also takes playlists and session descriptions, which tell it to open something else.
    """
    head = data[:64]
    return (
        (head[:1] == b"\0" and head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"))
        or (head[:4] == b"\x1aE\xdf\xa3" and (b"matroska" in head or b"webm" in head))
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or head[:4] == b"FLV\1"
        or head[:4] == b"\0\0\1\xba"
    )


def _read(complaint: str, read: Callable[[], Result]) -> Result:
    try:
        return read()
    except MemoryError:
        raise
    except Exception as error:  # on hostile bytes a decoder may raise anything
        raise VideoUnreadable(complaint, field="data") from error
