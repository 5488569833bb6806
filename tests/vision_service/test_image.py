"""Pictures are converted as the reference converts them; anything else is refused in our own words."""

import hashlib
import io
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from PIL import Image

from internvl.errors import ImageTooLarge, ImageUnreadable, InvalidRequest
from tests.support import golden
from tests.support.pictures import file_of, synthetic
from vision_service.image import ImageLimits, decode_image

LIMITS = ImageLimits(max_bytes=10_000_000, max_pixels=2_000_000, max_side=20_000)
CONVERSIONS = golden.load("preprocess")["mode_conversion"]["cases"]


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def in_mode(mode: str) -> Image.Image:
    """The golden file's picture in another mode."""
    base = Image.fromarray(synthetic(300, 200, 21))
    red = np.asarray(base)[:, :, 0]
    alpha = Image.fromarray(np.tile((3 * np.arange(300)) % 256, (200, 1)).astype(np.uint8))
    match mode:
        case "RGBA":
            base.putalpha(alpha)
            return base
        case "L":
            return Image.fromarray(red)
        case "P":
            return Image.fromarray(red).convert("P")
        case "1":
            return Image.fromarray(red > 127)
        case "I;16":
            return Image.fromarray(red.astype(np.uint16) * 256)
    raise AssertionError(mode)


@pytest.mark.parametrize("mode", CONVERSIONS)
def test_modes_are_converted_as_the_reference_does(mode: str) -> None:
    image = decode_image(saved(in_mode(mode), "PNG"), LIMITS)
    assert hashlib.sha256(np.asarray(image).tobytes()).hexdigest() == CONVERSIONS[mode]["converted_sha256"]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "JPEG"])
def test_every_format(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    image = decode_image(file_of(60, 40, kind=kind, **options), LIMITS)
    assert (image.size, image.mode) == ((60, 40), "RGB")
    if kind not in ("GIF", "JPEG"):
        assert np.array_equal(np.asarray(image), synthetic(60, 40, 0))


def test_of_an_animation_the_first_frame() -> None:
    red, blue = Image.new("RGB", (9, 9), "red"), Image.new("RGB", (9, 9), "blue")
    image = decode_image(saved(red, "GIF", save_all=True, append_images=[blue] * 3), LIMITS)
    assert image.getpixel((4, 4)) == (255, 0, 0)


def test_exif_turns_a_picture_only_when_asked() -> None:
    image = Image.new("RGB", (30, 10))
    exif = image.getexif()
    exif[0x0112] = 6
    data = saved(image, "JPEG", exif=exif)
    assert decode_image(data, LIMITS).size == (30, 10)
    assert decode_image(data, LIMITS, exif_orientation=True).size == (10, 30)


@pytest.mark.parametrize(("width", "height"), [(1, 5000), (5000, 1), (1, 1)])
def test_odd_shapes_are_pictures(width: int, height: int) -> None:
    assert decode_image(file_of(width, height), LIMITS).size == (width, height)


@pytest.mark.parametrize(("width", "height"), [(2001, 1000), (20_001, 1)])
def test_too_many_pixels(width: int, height: int) -> None:
    with pytest.raises(ImageTooLarge, match=f"{width}x{height}"):
        decode_image(file_of(width, height), LIMITS)


def test_a_bomb_is_refused_by_its_header() -> None:
    data = bytearray(file_of(10, 10))
    data[16:24] = (200_000).to_bytes(4, "big") * 2  # PNG: width and height
    with pytest.raises(InvalidRequest):
        decode_image(bytes(data), LIMITS)


def test_too_many_bytes() -> None:
    with pytest.raises(ImageTooLarge, match="bytes"):
        decode_image(b"x" * 10_000_001, LIMITS)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "JPEG"])
def test_damaged_files_are_refused_without_a_decoders_words(kind: str) -> None:
    data = file_of(200, 150, kind=kind)
    generator = np.random.default_rng(0)
    for trial in range(60):
        damaged = bytearray(data)
        if trial % 2:
            damaged = damaged[: generator.integers(0, len(data))]
        else:
            for place in generator.integers(0, len(data), size=20):
                damaged[place] ^= int(generator.integers(1, 256))
        with suppress(InvalidRequest):
            decode_image(bytes(damaged), LIMITS)
            continue
        with pytest.raises(InvalidRequest, match=r"^(the picture is cut off|not a picture in|a picture of)"):
            decode_image(bytes(damaged), LIMITS)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"%PDF-1.7", b"<svg/>", b"\x89PNG\r\n\x1a\n"])
def test_no_pictures(data: bytes) -> None:
    with pytest.raises(ImageUnreadable):
        decode_image(data, LIMITS)


def test_a_format_that_is_not_on_the_list() -> None:
    with pytest.raises(ImageUnreadable, match="not a picture in one of the formats JPEG, PNG"):
        decode_image(file_of(10, 10, kind="PPM"), LIMITS)
