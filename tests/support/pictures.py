"""Pictures and clips that tests make themselves."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

BARS = 8


def synthetic(width: int, height: int, seed: int) -> np.ndarray:
    """uint8 (H, W, 3), by the formula of the golden files."""
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    red = (7 * x + 13 * y + 17 * seed) % 256
    green = ((x * x) // 7 ^ (3 * y + seed)) & 255
    blue = ((x * y + 31 * seed) >> 2) & 255
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def file_of(width: int, height: int, *, seed: int = 0, kind: str = "PNG", **options: Any) -> bytes:
    """A picture file."""
    buffer = io.BytesIO()
    Image.fromarray(synthetic(width, height, seed)).save(buffer, kind, **options)
    return buffer.getvalue()


def frame_number(frame: Image.Image) -> int:
    """Which frame of a `clip_of` this is."""
    bars = np.asarray(frame).reshape(frame.height, BARS, -1, 3).mean(axis=(0, 2, 3))
    return sum(1 << bit for bit in range(BARS) if bars[bit] > 127)


def clip_of(path: Path, frame_count: int, *, size: tuple[int, int] = (64, 48), rate: int = 10) -> bytes:
    """An mp4 clip whose frame k shows the bits of k as eight bars, black and white."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for index in range(frame_count):
            bits = np.array([255 * (index >> bit & 1) for bit in range(BARS)], dtype=np.uint8)
            bars = np.broadcast_to(bits.repeat(size[0] // BARS)[None, :, None], (size[1], size[0], 3))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(bars), format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


def encoded_clip(container_format: str, codec: str) -> bytes:
    """12 frames of 64x48 in any container and codec of FFmpeg."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(synthetic(64, 48, index), format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()
