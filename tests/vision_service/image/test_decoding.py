"""Images of every format become RGB; anything else is refused in our own words, which say what it is."""

import io
import subprocess
import sys
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from PIL import Image

from internvl.errors import ImageTooLarge, ImageUnreadable, InvalidRequest
from tests.support.pictures import file_of, synthetic
from tests.support.videos import sound_file, video_file
from vision_service.image.decoding import FORMATS, ImageLimits, decode_image, page_count

LIMITS = ImageLimits(max_bytes=10_000_000, max_pixels=2_000_000, max_side=20_000)
KINDS = ["PNG", "BMP", "TIFF", "WEBP", "GIF", "JPEG", "AVIF"]
NAMES = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC"


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_every_format(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    image = decode_image(file_of(60, 40, kind=kind, **options), LIMITS)
    assert (image.size, image.mode) == ((60, 40), "RGB")
    if kind not in ("GIF", "JPEG", "AVIF"):
        assert np.array_equal(np.asarray(image), synthetic(60, 40, 0))


def test_heic_where_it_can_be_read() -> None:
    data = saved(Image.new("RGB", (60, 40), "red"), "HEIF")
    image = decode_image(data, LIMITS)
    assert image.size == (60, 40)
    assert image.getpixel((30, 20))[0] > 240  # type: ignore[index]
    with pytest.raises(ImageTooLarge):
        decode_image(data, ImageLimits(10_000, 100, 100))


def test_heic_is_refused_by_its_name_where_it_cannot() -> None:
    script = """
import sys
sys.modules["pillow_heif"] = None
from vision_service.image.decoding import ImageLimits, decode_image
try:
    decode_image(sys.stdin.buffer.read(), ImageLimits(10_000, 10_000, 10_000))
except Exception as error:
    print(type(error).__name__, error)
"""
    data = saved(Image.new("RGB", (60, 40), "red"), "HEIF")
    found = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, check=True)
    assert found.stdout.decode() == (
        "ImageUnreadable the file is HEIC, which is not accepted: convert it to JPEG or PNG\n"
    )


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_of_several_pages_the_first(kind: str) -> None:
    red, blue = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (16, 16), "blue")
    green = Image.new("RGB", (16, 16), "green")
    data = saved(red, kind, save_all=True, append_images=[blue, green])
    assert np.abs(np.subtract(decode_image(data, LIMITS).getpixel((4, 4)), (255, 0, 0))).max() < 10  # type: ignore[arg-type]
    assert page_count(data) == 3
    assert page_count(saved(red, kind)) == 1


def test_other_views_of_a_photograph_are_no_pages() -> None:
    red = Image.new("RGB", (16, 16), "red")
    assert page_count(saved(red, "MPO", save_all=True, append_images=[red])) == 1


@pytest.mark.parametrize(("width", "height"), [(1, 5000), (5000, 1), (1, 1)])
def test_odd_shapes_are_images(width: int, height: int) -> None:
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


@pytest.mark.parametrize("kind", KINDS)
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
        with pytest.raises(
            InvalidRequest, match=r"^(the .* image is cut off|\d+% of the .* image|the file is|an image of)"
        ):
            decode_image(bytes(damaged), LIMITS)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", f"the file is not an image in one of the formats {NAMES}"),
        (b"hello", f"the file is not an image in one of the formats {NAMES}"),
        (b"%PDF-1.7", f"the file is PDF, not an image: send {NAMES}"),
        (b"PK\x03\x04" + bytes(99), f"the file is ZIP, not an image: send {NAMES}"),
        (b"<html><body>not found", f"the file is HTML page, not an image: send {NAMES}"),
        (b"<svg xmlns='x'/>", "the file is SVG, which is not accepted: convert it to JPEG or PNG"),
        (
            b'<?xml version="1.0"?>\n<!-- x -->\n<svg/>',
            "the file is SVG, which is not accepted: convert it to JPEG or PNG",
        ),
        (file_of(9, 9, kind="JPEG2000"), "the file is JPEG 2000, which is not accepted: convert it to JPEG or PNG"),
        (file_of(9, 9, kind="PPM"), "the file is Netpbm, which is not accepted: convert it to JPEG or PNG"),
        (file_of(32, 32, kind="ICO"), "the file is Windows icon, which is not accepted: convert it to JPEG or PNG"),
        (video_file("mp4", "mpeg4"), "the file is MP4 or MOV, a video: send it as a video"),
        (video_file("webm", "libvpx"), "the file is Matroska or WebM, a video: send it as a video"),
        (sound_file("mp4"), "the file is MP4 or MOV, a video: send it as a video"),
        (b"GIF89a", "the GIF image is cut off or damaged: send the file again, whole"),
        (b"\x89PNG\r\n\x1a\n", "the PNG image is cut off or damaged: send the file again, whole"),
        (file_of(200, 150, kind="WEBP")[:900], "the WebP image is cut off or damaged: send the file again, whole"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refusals_say_what_the_file_is_and_what_to_do(data: bytes, message: str) -> None:
    with pytest.raises(ImageUnreadable) as caught:
        decode_image(data, LIMITS)
    assert caught.value.message == message
    assert caught.value.field == "data"


def test_only_the_formats_on_the_list_are_tried() -> None:
    assert set(FORMATS) == {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"}
