"""Image files whose tail is missing or damaged: shown while it is a few per cent, as browsers do.

How much is missing is found by trial, without a decoder's help: what is decoded twice, into memory of two colours, or
followed by two different tails, differs where the file does not say what is there.
"""

import io

import numpy as np
from PIL import Image

MOST_MISSING = 0.05
"""Share of the pixels; beyond it an image is refused."""
_NOTICEABLE = 24
"""Levels of 255 by which a pixel differs that the file does not tell."""
_JPEG_END = b"\xff\xd9"
_JPEG_TAILS = (b"\x00", b"\x55")
_TAIL_BYTES = 1 << 16
_MOST_BLOCK_ROWS = 32
"""Pixel rows that a JPEG decodes at a time, at most."""


def salvaged(data: bytes, formats: tuple[str, ...]) -> tuple[Image.Image, float] | None:
    """The loaded image of a damaged file and the share of its pixels that are missing; None where nothing is left."""
    image = Image.open(io.BytesIO(data), formats=formats)
    if image.format in ("JPEG", "MPO"):
        return _salvaged_jpeg(data, is_progressive="progressive" in image.info)
    return _salvaged_rows(data, formats)


def _salvaged_rows(data: bytes, formats: tuple[str, ...]) -> tuple[Image.Image, float] | None:
    """Formats whose decoders write rows, or passes, as they come."""
    light, dark = (_into(data, formats, fill) for fill in (255, 0))
    if light is None or dark is None:
        return None
    differs = np.asarray(light) != np.asarray(dark)
    return light, float(np.mean(differs if differs.ndim == 2 else differs.any(axis=2)))


def _salvaged_jpeg(data: bytes, *, is_progressive: bool) -> tuple[Image.Image, float] | None:
    formats = ("JPEG",)
    image = _into(data + _JPEG_END, formats, 255)
    views = [_into(data + tail * _TAIL_BYTES + _JPEG_END, formats, 255) for tail in _JPEG_TAILS]
    if image is None or None in views:
        return None
    one, other = (np.atleast_3d(np.asarray(view, np.int16)) for view in views)
    missing = (np.abs(one - other) > _NOTICEABLE).any(axis=2)
    if not is_progressive:  # after a restart marker both tails read alike: rows that were never reached are missing
        missing[_reached_rows(data, formats) + _MOST_BLOCK_ROWS :] = True
    return image, float(missing.mean())


def _reached_rows(data: bytes, formats: tuple[str, ...]) -> int:
    """Rows that were decoded when the data ended."""
    light, dark = (_into(data, formats, fill) for fill in (255, 0))
    if light is None or dark is None:
        return 0
    written = (np.atleast_3d(np.asarray(light)) == np.atleast_3d(np.asarray(dark))).all(axis=(1, 2))
    return int(np.flatnonzero(written)[-1]) + 1 if written.any() else 0


def _into(data: bytes, formats: tuple[str, ...], fill: int) -> Image.Image | None:
    """As much as can be decoded, over memory full of `fill`; None where a decoder takes no memory of ours."""
    image = Image.open(io.BytesIO(data), formats=formats)
    memory = Image.new(image.mode, image.size, fill if len(image.getbands()) == 1 else (fill,) * len(image.getbands()))
    image.im = memory.im
    try:
        image.load()
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - on damaged bytes a decoder may raise anything
        image.tile = []  # what has been written is all there is
    return image if image.im is memory.im else None
