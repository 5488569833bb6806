"""A tail of a few per cent may be missing; more is refused."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from internvl.errors import ImageUnreadable
from tests.support.pictures import file_of
from vision_service.image.decoding import ImageLimits, decode_image

LIMITS = ImageLimits(max_bytes=10_000_000, max_pixels=2_000_000, max_side=20_000)
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("JPEG", {"quality": 95, "subsampling": 0}),
    ("JPEG", {"restart_marker_rows": 1}),
    ("JPEG", {"restart_marker_blocks": 4}),
    ("PNG", {}),
    ("BMP", {}),
    ("TIFF", {}),
    ("GIF", {}),
]


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """Smooth colours, as photographs have them."""
    coarse = np.random.default_rng(0).integers(0, 256, (15, 20, 3), np.uint8)
    return Image.fromarray(coarse).resize((400, 300), Image.Resampling.BICUBIC)


def saved(image: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=str)
def test_a_missing_tail(photo: Image.Image, kind: str, options: dict[str, Any]) -> None:
    data = saved(photo, kind, options)
    whole = np.asarray(decode_image(data, LIMITS)).astype(int)
    for missing in (2, 10, len(data) // 50):
        shown = np.asarray(decode_image(data[:-missing], LIMITS)).astype(int)
        assert shown.shape == whole.shape
        differs = (np.abs(shown - whole) > 24).any(axis=2)
        assert differs.mean() <= 0.05
        assert not differs[:200].any() or kind == "BMP"  # which is written from the bottom
    # Of a progressive file the last third refines what is there: without it hardly a pixel looks different.
    for share in (0.7, 0.9) if "progressive" in options else (0.2, 0.5, 0.9):
        with pytest.raises(ImageUnreadable, match=rf"the {kind} image|of the {kind} image are missing"):
            decode_image(data[: int(len(data) * (1 - share))], LIMITS)


def test_a_progressive_file_is_judged_by_what_can_be_seen(photo: Image.Image) -> None:
    data = saved(photo, "JPEG", {"progressive": True})
    whole = np.asarray(decode_image(data, LIMITS)).astype(int)
    for share in (0.05, 0.1, 0.2, 0.3):
        shown = np.asarray(decode_image(data[: int(len(data) * (1 - share))], LIMITS)).astype(int)
        assert (np.abs(shown - whole) > 24).any(axis=2).mean() < 0.01


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_formats_that_decode_whole_or_not(photo: Image.Image, kind: str) -> None:
    name = {"WEBP": "WebP"}.get(kind, kind)
    with pytest.raises(ImageUnreadable, match=f"the {name} image is cut off or damaged: send the file again, whole"):
        decode_image(saved(photo, kind, {})[:-10], LIMITS)


def test_damage_inside(photo: Image.Image) -> None:
    """Near the end it is a tail; in the middle half the image is gone."""
    data = bytearray(saved(photo, "PNG", {}))
    data[-200] ^= 255
    assert decode_image(bytes(data), LIMITS).size == photo.size
    data[len(data) // 2] ^= 255
    with pytest.raises(ImageUnreadable, match="% of the PNG image are missing"):
        decode_image(bytes(data), LIMITS)


def test_a_strip_of_one_block_row_that_is_cut(photo: Image.Image) -> None:
    strip = saved(photo.crop((0, 0, 400, 16)), "JPEG", {})
    assert decode_image(strip[:-2], LIMITS).size == (400, 16)
    with pytest.raises(ImageUnreadable, match="are missing"):
        decode_image(strip[: len(strip) // 2 + 300], LIMITS)


def test_a_jpeg_without_its_last_marker() -> None:
    data = file_of(200, 120, kind="JPEG")
    assert data[-2:] == b"\xff\xd9"
    assert decode_image(data[:-2], LIMITS).tobytes() == decode_image(data, LIMITS).tobytes()
