"""Choice of the frames of a video, and bounds of their work. Knows no file."""

from dataclasses import dataclass

import numpy as np

from internvl.errors import BadOption, VideoTooLarge


@dataclass(frozen=True)
class FrameOptions:
    """Options of the choice. Part of the embedding key."""

    frame_count: int
    start_seconds: float | None = None
    end_seconds: float | None = None

    @property
    def has_range(self) -> bool:
        return self.start_seconds is not None or self.end_seconds is not None


@dataclass(frozen=True)
class VideoLimits:
    """Limits that are checked before frames are decoded."""

    max_bytes: int
    max_pixels: int
    """Pixels of one frame."""
    max_sampled_pixels: int
    """Pixels of all frames that are sampled, each distinct one counted once."""

    def check_frame(self, width: int, height: int) -> None:
        """Raises VideoTooLarge."""
        if width * height > self.max_pixels:
            raise VideoTooLarge(
                f"frames of {width}x{height} pixels; at most {self.max_pixels} are accepted", field="data"
            )

    def check_sampled(self, width: int, height: int, frame_count: int) -> None:
        """Raises VideoTooLarge."""
        if width * height * frame_count > self.max_sampled_pixels:
            raise VideoTooLarge(
                f"{frame_count} frames of {width}x{height} pixels; at most {self.max_sampled_pixels} pixels are "
                "accepted in all: ask for fewer frames",
                field="frames.frame_count",
            )


def frame_indices(options: FrameOptions, *, frames_per_second: float, last_index: int) -> list[int]:
    """The middles of `frame_count` equal segments of the range, as `get_index` of the model card computes them.

    Short videos repeat frames. Indices may lie past `last_index`, or run backwards, when the range begins past it.
    """
    start_seconds = -100_000.0 if options.start_seconds is None else options.start_seconds
    end_seconds = 100_000.0 if options.end_seconds is None else options.end_seconds
    start = max(0, round(start_seconds * frames_per_second))
    end = min(round(end_seconds * frames_per_second), last_index)
    segment = float(end - start) / options.frame_count
    return [int(start + segment / 2 + np.round(segment * index)) for index in range(options.frame_count)]


def wanted_indices(options: FrameOptions, *, frames_per_second: float, frame_count: int) -> list[int]:
    """`frame_indices` of a video with `frame_count` frames, ascending. Raises BadOption for a start past its end."""
    start = options.start_seconds or 0.0
    if start * frames_per_second >= frame_count:
        raise BadOption(
            f"the range starts at {start:g} s, the video ends at {frame_count / frames_per_second:g} s",
            field="frames.start_seconds",
        )
    last = frame_count - 1
    if round(start * frames_per_second) > last:  # inside the last frame, and rounded to the one after it
        return [last] * options.frame_count
    return frame_indices(options, frames_per_second=frames_per_second, last_index=last)
