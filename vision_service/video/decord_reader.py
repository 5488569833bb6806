"""Frames by decord, the reference's reader, which finds them by counting from the key frame before.

It counts packets that are hidden, loses count in open groups of pictures and does not mirror. So it is only taken where
the timeline is plain, nothing is to be turned, and its own count and times agree.
"""

import io
from collections.abc import Iterator, Sequence

# Before decord, which loads its FFmpeg for all libraries that follow: PyAV would be bound to that copy, not to its own.
import av  # noqa: F401
import decord
import numpy as np
from PIL import Image

from vision_service.video.pyav_reader import PyAvReader
from vision_service.video.reader import FrameReader

_TIME_TOLERANCE_SECONDS = 0.002


class DecordReader(FrameReader):
    """A file whose timeline is plain. What decord cannot decode is left to PyAV."""

    def __init__(self, reader: "decord.VideoReader", other: PyAvReader) -> None:
        self._reader, self._other = reader, other

    @classmethod
    def agreeing(cls, data: bytes, other: PyAvReader) -> "DecordReader | None":
        """None where it reads the file otherwise than the timeline says, or not at all."""
        if other.timeline is None or not other.timeline.is_plain or other.has_matrix:
            return None
        try:
            reader = decord.VideoReader(io.BytesIO(data), num_threads=1)
            agrees = _agrees(reader, other)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - on hostile bytes a decoder may raise anything, and PyAV has read the file
            return None
        return cls(reader, other) if agrees else None

    @property
    def frame_count(self) -> int:
        return self._other.frame_count

    @property
    def size(self) -> tuple[int, int]:
        return self._other.size

    def frames_per_second(self) -> float:
        return self._other.frames_per_second()

    def frames(self, indices: Sequence[int]) -> Iterator[Image.Image]:
        for place, index in enumerate(indices):
            try:
                image = _image(self._reader[index].asnumpy())
            except MemoryError:
                raise
            except Exception:  # noqa: BLE001 - as above
                yield from self._other.frames(indices[place:])
                return
            yield image


def _agrees(reader: "decord.VideoReader", other: PyAvReader) -> bool:
    timeline = other.timeline
    if timeline is None or other.time_base is None or len(reader) != len(timeline.times):
        return False
    shown = np.array(timeline.times) * float(other.time_base)
    starts = np.asarray(reader.get_frame_timestamp(range(len(reader))))[:, 0]
    return bool(np.abs((starts - starts[0]) - (shown - shown[0])).max() <= _TIME_TOLERANCE_SECONDS)


def _image(frame: np.ndarray) -> Image.Image:
    """Rows of (H, W, 3); in a narrow frame decord leaves each row's padding, and counts it as more channels."""
    height, width, _ = frame.shape
    rows = frame.reshape(height, -1)[:, : 3 * width]
    return Image.fromarray(np.ascontiguousarray(rows).reshape(height, width, 3))
