"""Image files whose tail is missing or damaged: shown while it is a few per cent, as browsers do.

How much is missing is found by trial, without a decoder's help: what is decoded twice, into memory of two colours, or
with another tail, differs where the file does not say what is there.
"""

import io

import numpy as np
from PIL import Image, ImageChops

MOST_MISSING = 0.05
"""Share of the pixels; beyond it an image is refused."""
_NOTICEABLE = 24
"""Levels of 255 by which a pixel differs that the file does not tell."""
_JPEG_END = b"\xff\xd9"
_JPEG_TAIL = b"\x55" * (1 << 16)
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
    image, other = (_into(data + tail + _JPEG_END, ("JPEG",), 255) for tail in (b"", _JPEG_TAIL))
    if image is None or other is None:
        return None
    missing = _differences(image, other) > _NOTICEABLE
    if not is_progressive:  # after a restart marker both read alike: rows that were never reached are missing
        missing[_reached_rows(data, image) + _MOST_BLOCK_ROWS :] = True
    return image, float(missing.mean())


def _reached_rows(data: bytes, image: Image.Image) -> int:
    """Rows of `image` that were decoded when the data ended: the others are white here, and gray there."""
    begun = _into(data, ("JPEG",), 255)
    if begun is None:
        return 0
    rows = np.flatnonzero(_differences(begun, image).max(axis=1) == 0)
    return int(rows[-1]) + 1 if len(rows) else 0


def _differences(one: Image.Image, other: Image.Image) -> np.ndarray:
    """uint8 (H, W): the largest of any channel."""
    differences: np.ndarray = np.atleast_3d(np.asarray(ImageChops.difference(one, other)))
    largest: np.ndarray = differences.max(axis=2)
    return largest


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
