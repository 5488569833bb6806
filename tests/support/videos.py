"""Video files whose frames show their own number, in any codec and container of FFmpeg.

A frame shows the bits of its number as eight bars, above a foot whose left half is white: so a frame that is another
one, turned, or mirrored is told from the right one.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

import av
import numpy as np

BARS = 8
SIZE = (64, 48)


def picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """uint8 (H, W, 3) of frame `number`."""
    width, height = size
    bits = np.array([255 * (number >> bit & 1) for bit in range(BARS)], np.uint8)
    frame = np.empty((height, width, 3), np.uint8)
    frame[:] = bits.repeat(width // BARS)[None, :, None]
    frame[2 * height // 3 :] = 0
    frame[2 * height // 3 :, : width // 2] = 255
    return frame


def number_of(frame: np.ndarray) -> int | None:
    """The number that uint8 (H, W, 3) shows, None where it shows none the right way up."""
    height, width, _ = frame.shape
    head, foot = frame[: 2 * height // 3 - 2], frame[2 * height // 3 + 2 :]
    left, right = foot[:, : width // 2 - 2].mean(), foot[:, width // 2 + 2 :].mean()
    if left < 160 or right > 96:
        return None
    bars = head.reshape(len(head), BARS, -1, 3).mean(axis=(0, 2, 3))
    return sum(1 << bit for bit in range(BARS) if bars[bit] > 127)


def video_file(
    container: str,
    codec: str,
    *,
    numbers: Sequence[int] = range(30),
    times: Sequence[int] | None = None,
    rate: int = 10,
    size: tuple[int, int] = SIZE,
    key_every: int = 10,
    b_frames: int = 0,
    pixel_format: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    muxer: Mapping[str, str] | None = None,
    matrix: Sequence[int] | None = None,
    audio: bool = False,
) -> bytes:
    """A file of the frames `numbers`, `times` in units of 1/rate s. Of a matrix, the display matrix's nine values."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=dict(muxer or {})) as output:
        stream = output.add_stream(codec, rate=rate, options=dict(options or {}))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        stream.codec_context.gop_size = key_every
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.thread_count = 1
        stream.time_base = stream.codec_context.time_base = Fraction(1, rate)
        if matrix is not None:
            stream.set_display_matrix(matrix)
        sound = output.add_stream("aac" if container in ("mp4", "mov") else "mp2", rate=44_100) if audio else None
        for index, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(picture(number, size), format="rgb24")
            frame.pts, frame.time_base = (index if times is None else times[index]), Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
        if isinstance(sound, av.AudioStream):
            _add_silence(output, sound, len(numbers) / rate)
    return buffer.getvalue()


def sound_file(container: str) -> bytes:
    """A file without pictures."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        sound = output.add_stream("aac", rate=44_100)
        assert isinstance(sound, av.AudioStream)
        _add_silence(output, sound, 1.0)
    return buffer.getvalue()


def remuxed(
    data: bytes,
    container: str,
    *,
    skip: float = 0.0,
    end: float | None = None,
    muxer: Mapping[str, str] | None = None,
) -> bytes:
    """The packets in another file, not encoded again, as `ffmpeg -ss SKIP -to END -c copy` writes it.

    It begins at the key frame before `skip`, whose frames up to `skip` a player hides.
    """
    buffer = io.BytesIO()
    with (
        av.open(io.BytesIO(data), "r") as source,
        av.open(buffer, "w", format=container, options=dict(muxer or {})) as output,
    ):
        stream = source.streams.video[0]
        copy = output.add_stream_from_template(stream)
        assert stream.time_base is not None
        offset = round(skip / stream.time_base)
        for packet in _from_key_frame(source, stream, offset):
            assert packet.pts is not None
            assert packet.dts is not None
            if end is not None and packet.pts * stream.time_base >= end:
                continue
            packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
            packet.stream = copy
            output.mux(packet)
    return buffer.getvalue()


def _from_key_frame(
    source: av.container.InputContainer, stream: av.VideoStream, offset: int
) -> "Iterator[av.Packet[av.VideoStream]]":
    packets = [packet for packet in source.demux(stream) if packet.dts is not None]
    starts = [
        index for index, packet in enumerate(packets) if packet.is_keyframe and (packet.pts or 0) <= max(offset, 0)
    ]
    yield from packets[starts[-1] if starts else 0 :]


def _add_silence(output: av.container.OutputContainer, sound: av.AudioStream, seconds: float) -> None:
    samples = sound.codec_context.frame_size or 1152
    for start in range(0, int(44_100 * seconds), samples):
        frame = av.AudioFrame.from_ndarray(np.zeros((2, samples), np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 44_100, start, Fraction(1, 44_100)
        output.mux(sound.encode(frame))
    output.mux(sound.encode())
