"""Bytes to sampled frames: step 2 of the data's path for clips."""

import io
from dataclasses import dataclass

import decord
import numpy as np
from PIL import Image

from shared.errors import BadOption, VideoTooLarge, VideoUnreadable


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


def sample_frames(data: bytes, options: FrameOptions, limits: VideoLimits) -> list[Image.Image]:
    """The frames as RGB images. Raises VideoUnreadable, VideoTooLarge, BadOption for a range outside the clip."""
    if len(data) > limits.max_bytes:
        raise VideoTooLarge(f"a clip of {len(data)} bytes; at most {limits.max_bytes} are accepted", field="data")
    reader = _open(data)
    total = len(reader)
    if total < 1:
        raise VideoUnreadable("the clip has no frames", field="data")
    height, width = reader[0].shape[:2]
    if width * height > limits.max_pixels:
        raise VideoTooLarge(
            f"frames of {width}x{height} pixels; at most {limits.max_pixels} are accepted", field="data"
        )
    indices = frame_indices(options, frames_per_second=float(reader.get_avg_fps()), last_index=total - 1)
    if not all(0 <= index < total for index in indices):
        raise BadOption(f"the range lies outside the clip, which has {total} frames", field="frames")
    try:
        return [Image.fromarray(reader[index].asnumpy()).convert("RGB") for index in indices]
    except Exception as error:  # on hostile bytes a decoder may raise anything
        raise VideoUnreadable("the clip is cut off or damaged", field="data") from error


def _open(data: bytes) -> decord.VideoReader:
    try:
        return decord.VideoReader(io.BytesIO(data), ctx=decord.cpu(0), num_threads=1)
    except Exception as error:  # on hostile bytes a decoder may raise anything
        raise VideoUnreadable("not a clip that can be read", field="data") from error
