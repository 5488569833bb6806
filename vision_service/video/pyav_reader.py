"""Frames by PyAV (FFmpeg): from the key frame before each, or, where packets do not tell, by reading in sequence.

A frame that its key frame does not give (a gradual refresh, damage) is looked for from the beginning; where there is
none at its time even so, a player goes on showing the one before, and so does this.
"""

import io
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, cast

import av
import av.audio.codeccontext
import av.audio.stream
import av.subtitles.codeccontext
import av.subtitles.stream
import av.video.codeccontext
import av.video.stream
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from PIL import Image

from internvl.errors import VideoUnreadable
from vision_service.video.reader import FrameReader
from vision_service.video.sampling import VideoLimits
from vision_service.video.timeline import Timeline, read_timeline

# Loaded here, because where files are decoded nothing can be loaded any more: PyAV would do it at the first file.
_LOADED = (av.audio, av.subtitles, av.video)
Result = TypeVar("Result")
DAMAGED = "the video is cut off or damaged"
_RAW = ("h264", "hevc", "mpegvideo")
_MATRIX_BYTES = 36


class PyAvReader(FrameReader):
    """Any container that FFmpeg's `demuxer` reads. Raises VideoUnreadable, VideoTooLarge."""

    def __init__(self, data: bytes, demuxer: str, limits: VideoLimits) -> None:
        self._data, self._demuxer = data, demuxer
        with _Playback(data, demuxer) as playback:
            stream = playback.stream
            limits.check_frame(stream.codec_context.width, stream.codec_context.height)
            is_raw = demuxer in _RAW  # where FFmpeg tells 25 unless the codec knows better
            self._rate = (None if is_raw else stream.average_rate) or stream.guessed_rate
            self.time_base = stream.time_base
            self.timeline: Timeline | None = read_timeline(playback.packets(), stream)
        with _Playback(data, demuxer) as playback:
            first = next(playback.frames(), None)
            if first is None:
                raise VideoUnreadable(DAMAGED, field="data")
            self._size = (first.width, first.height)
            self.has_matrix = _matrix(first) is not None
        self._count: int | None = None

    @property
    def frame_count(self) -> int:
        if self.timeline is not None:
            return len(self.timeline.times)
        if self._count is None:
            with _Playback(self._data, self._demuxer) as playback:
                self._count = sum(1 for _ in playback.frames())
        return self._count

    @property
    def size(self) -> tuple[int, int]:
        return self._size

    def frames_per_second(self) -> float:
        rate = float(self._rate or 0)
        if not 0 < rate < math.inf:
            raise VideoUnreadable("the video does not say how many frames a second has", field="data")
        return rate

    def frames(self, indices: Sequence[int]) -> Iterator[Image.Image]:
        found = self._in_sequence(indices) if self.timeline is None else self._from_keys(indices, self.timeline)
        for frame in found:
            yield _read(lambda: _image(frame))  # noqa: B023 - called at once

    def _in_sequence(self, indices: Sequence[int]) -> Iterator[av.VideoFrame]:
        wanted = deque(indices)
        with _Playback(self._data, self._demuxer) as playback:
            for index, frame in enumerate(playback.frames()):
                if index == wanted[0]:
                    yield frame
                    wanted.popleft()
                if not wanted:
                    return
        raise VideoUnreadable(DAMAGED, field="data")

    def _from_keys(self, indices: Sequence[int], timeline: Timeline) -> Iterator[av.VideoFrame]:
        playback, may_jump = _Playback(self._data, self._demuxer), True
        try:
            for index in indices:
                time = timeline.times[index]
                if may_jump:
                    playback.jump(timeline.starts[index], timeline.start_times[index])
                frame = playback.frame_at(time)
                if may_jump and (frame is None or frame.pts != time):
                    playback.close()
                    playback, may_jump = _Playback(self._data, self._demuxer), False
                    frame = playback.frame_at(time)
                if frame is None:
                    raise VideoUnreadable(DAMAGED, field="data")
                yield frame
        finally:
            playback.close()


class _Playback:
    """A file from its beginning on, with jumps forward."""

    def __init__(self, data: bytes, demuxer: str) -> None:
        self._container = _read(lambda: av.open(io.BytesIO(data), "r", format=demuxer, metadata_errors="ignore"))
        stream = self._container.streams.best("video")
        if not isinstance(stream, av.VideoStream) or stream.codec_context is None:
            what = "only sound" if self._container.streams.audio else "no video that can be read"
            self.close()
            raise VideoUnreadable(f"the file has {what}", field="data")
        self.stream = stream
        stream.thread_type, stream.thread_count = "NONE", 1
        self._next_ordinal = 0
        self._floor: int | None = None
        self._frames = self.frames()
        self._shown: av.VideoFrame | None = None
        self._ahead: av.VideoFrame | None = None

    def __enter__(self) -> "_Playback":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._container.close()

    def packets(self) -> "Iterator[av.Packet[av.VideoStream]]":
        """Those of the stream, in the file's order; ends where the file is damaged beyond reading."""
        packets = self._container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except MemoryError:
                raise
            except (StopIteration, av.error.FFmpegError):
                return
            if packet.dts is not None or packet.size:
                yield packet

    def frames(self) -> Iterator[av.VideoFrame]:
        """Those that are shown, in order. A packet that cannot be decoded is passed over."""
        for ordinal, packet in enumerate(self.packets()):
            if ordinal >= self._next_ordinal:
                self._next_ordinal = ordinal + 1
                yield from self._decoded(packet)
        yield from self._decoded(None)

    def jump(self, ordinal: int, time: int) -> None:
        """Goes on at a key packet, unless that has been passed: frames before `time` are not whole from here on."""
        if ordinal > self._next_ordinal:
            self.stream.codec_context.flush_buffers()
            self._next_ordinal, self._floor = ordinal, time
            self._shown = self._ahead = None

    def frame_at(self, time: int) -> av.VideoFrame | None:
        """The frame that is shown at `time`; None without any up to then."""
        while True:
            if self._ahead is None:
                self._ahead = next(self._frames, None)
            ahead = self._ahead
            if ahead is None or ahead.pts is None or ahead.pts > time:
                return self._shown
            if self._floor is None or ahead.pts >= self._floor:
                self._shown = ahead
            self._ahead = None

    def _decoded(self, packet: "av.Packet[av.VideoStream] | None") -> list[av.VideoFrame]:
        try:
            return list(self.stream.codec_context.decode(packet))
        except MemoryError:
            raise
        except av.error.FFmpegError:
            return []


def _image(frame: av.VideoFrame) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(_upright(frame.to_ndarray(format="rgb24"), _matrix(frame))))


def _matrix(frame: av.VideoFrame) -> np.ndarray | None:
    """The linear part of the display matrix, (2, 2): a stored (x, y) is shown at (x, y) @ matrix."""
    side_data = cast("SideDataContainer", frame.side_data)  # whose stub is a TypedDict of something else
    data = side_data.get(SideDataType.DISPLAYMATRIX)
    if data is None or data.buffer_size < _MATRIX_BYTES:
        return None
    return np.frombuffer(bytes(data)[:_MATRIX_BYTES], "<i4").reshape(3, 3)[:2, :2]


def _upright(pixels: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """(H, W, 3) turned and mirrored as the display matrix says, by quarter turns."""
    if matrix is None:
        return pixels
    (xx, xy), (yx, yy) = matrix.tolist()
    if abs(xy) + abs(yx) > abs(xx) + abs(yy):
        pixels, (xx, yy) = pixels.swapaxes(0, 1), (yx, xy)
    return pixels[:: -1 if yy < 0 else 1, :: -1 if xx < 0 else 1]


def _read(read: Callable[[], Result]) -> Result:
    try:
        return read()
    except MemoryError:
        raise
    except Exception as error:  # on hostile bytes a decoder may raise anything
        raise VideoUnreadable(DAMAGED, field="data") from error
