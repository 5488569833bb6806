"""Frames of GIF, WebP and PNG animations, by Pillow: composed, over white."""

import io
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from PIL import Image

from internvl.errors import VideoUnreadable
from vision_service.image.appearance import as_rgb
from vision_service.image.pictures import Pictures
from vision_service.image.png_chunks import shown_chunks
from vision_service.video.reader import FrameReader
from vision_service.video.sampling import VideoLimits

Result = TypeVar("Result")
_LEAST_MILLISECONDS, _USUAL_MILLISECONDS = 10, 100
"""Browsers show a frame that asks for no more than the first for the second."""


class AnimationReader(FrameReader):
    """An image file of several frames. Raises VideoUnreadable, VideoTooLarge."""

    def __init__(self, data: bytes, name: str, limits: VideoLimits) -> None:
        self._name = name
        self._data = shown_chunks(data) if name == "PNG" else data
        with self._open() as image:
            limits.check_frame(*image.size)
            self._size = image.size
            self._frame_count = self._read(lambda: int(getattr(image, "n_frames", 1)))
        if self._frame_count < 2:
            raise VideoUnreadable(f"the file is {name} of one frame, an image: send it as an image", field="data")

    @property
    def frame_count(self) -> int:
        return self._frame_count

    @property
    def size(self) -> tuple[int, int]:
        return self._size

    def frames_per_second(self) -> float:
        """By decoding all frames: each tells how long it is shown."""
        milliseconds = [_milliseconds(image) for image in self._shown(range(self._frame_count))]
        return 1000 * self._frame_count / sum(milliseconds)

    def frames(self, indices: Sequence[int]) -> Iterator[Image.Image]:
        for image in self._shown(indices):
            yield self._read(lambda: as_rgb(image, Pictures.AS_SEEN))  # noqa: B023 - called at once

    def _shown(self, indices: Sequence[int]) -> Iterator[Image.Image]:
        """The file at each of these frames."""
        with self._open() as image:
            for index in indices:
                self._read(lambda: image.seek(index))  # noqa: B023 - called at once
                self._read(image.load)
                yield image

    def _open(self) -> Image.Image:
        return self._read(lambda: Image.open(io.BytesIO(self._data), formats=(self._name.upper(),)))

    def _read(self, read: Callable[[], Result]) -> Result:
        try:
            return read()
        except MemoryError:
            raise
        except Exception as error:  # on hostile bytes a decoder may raise anything
            raise VideoUnreadable(f"the {self._name} animation is cut off or damaged", field="data") from error


def _milliseconds(image: Image.Image) -> float:
    duration: float = image.info.get("duration", 0)
    return duration if duration > _LEAST_MILLISECONDS else _USUAL_MILLISECONDS
