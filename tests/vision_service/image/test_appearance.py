"""Images as a person sees them, and as the reference converts them; the same where there is nothing to tell apart."""

import hashlib
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tests.support import golden
from tests.support.pictures import file_of, synthetic
from vision_service.image.decoding import ImageLimits, decode_image
from vision_service.image.pictures import Pictures

LIMITS = ImageLimits(max_bytes=10_000_000, max_pixels=2_000_000, max_side=20_000)
CONVERSIONS = golden.load("preprocess")["mode_conversion"]["cases"]
TRAITS = ("RGBA", "I;16")
"""Modes of the golden file in which the two views differ."""
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def seen(data: bytes) -> Image.Image:
    return decode_image(data, LIMITS, Pictures.AS_SEEN)


def referred(data: bytes) -> Image.Image:
    return decode_image(data, LIMITS, Pictures.REFERENCE)


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


def drawing(mode: str = "RGBA") -> Image.Image:
    """Black ink on transparency."""
    ink = Image.new("RGBA", (40, 30))
    ink.paste((0, 0, 0, 255), (10, 10, 30, 20))
    return ink.convert(mode)


def png(bits: int, colour_type: int, pixel: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """4x4 equal pixels, byte by byte."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, bits, colour_type, 0, 0, 0))
    rows = zlib.compress((b"\0" + pixel * 4) * 4)
    extra = b"".join(chunk(kind, data) for kind, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", CONVERSIONS)
def test_the_reference_converts_modes_so(mode: str) -> None:
    data = saved(in_mode(mode))
    wanted = CONVERSIONS[mode]["converted_sha256"]
    assert hashlib.sha256(np.asarray(referred(data)).tobytes()).hexdigest() == wanted
    as_seen = hashlib.sha256(np.asarray(seen(data)).tobytes()).hexdigest()
    assert (as_seen == wanted) == (mode not in TRAITS)


@given(
    pixels=st.binary(min_size=12, max_size=12),
    mode=st.sampled_from(["RGB", "L", "P", "1", "CMYK"]),
    kind=st.sampled_from(["PNG", "BMP", "TIFF", "GIF", "JPEG", "WEBP", "AVIF"]),
)
def test_both_views_are_equal_without_alpha_depth_and_orientation(pixels: bytes, mode: str, kind: str) -> None:
    image = Image.frombytes("RGB", (2, 2), pixels).convert(mode)
    try:
        data = saved(image, kind)
    except (OSError, ValueError):  # a mode that the format does not have
        data = saved(image.convert("RGB"), kind)
    assert seen(data).tobytes() == referred(data).tobytes()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "JPEG", "WEBP", "AVIF"])
def test_both_views_of_an_opaque_image_are_equal(kind: str) -> None:
    data = file_of(60, 40, kind=kind)
    assert seen(data).tobytes() == referred(data).tobytes()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "GIF", "AVIF"])
def test_a_drawing_on_transparency_is_black_on_white(kind: str) -> None:
    image = seen(saved(drawing(), kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert image.getpixel((2, 2)) == WHITE
    assert image.getpixel((20, 15)) == BLACK
    assert referred(saved(drawing(), kind)).getpixel((20, 15)) == BLACK


def test_transparency_of_every_kind_of_png() -> None:
    assert seen(saved(drawing("LA"))).getpixel((2, 2)) == WHITE
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    assert seen(saved(palette, transparency=1)).getpixel((1, 1)) == WHITE
    assert seen(saved(palette, transparency=b"\xff\x80")).getpixel((1, 1)) == (255, 127, 127)
    assert seen(saved(Image.new("RGB", (4, 4), (1, 2, 3)), transparency=(1, 2, 3))).getpixel((1, 1)) == WHITE
    assert seen(saved(Image.new("L", (4, 4), 7), transparency=7)).getpixel((1, 1)) == WHITE
    assert seen(saved(Image.new("1", (4, 4), 0), transparency=0)).getpixel((1, 1)) == WHITE
    deep = struct.pack(">HHH", 0x1234, 0x5678, 0x9ABC)
    assert seen(png(16, 2, deep)).getpixel((1, 1)) == (0x12, 0x56, 0x9A)
    assert seen(png(16, 2, deep, (b"tRNS", deep))).getpixel((1, 1)) == WHITE
    assert seen(png(16, 0, b"\x12\x34", (b"tRNS", b"\x12\x34"))).getpixel((1, 1)) == WHITE
    assert seen(png(16, 0, b"\x12\x34", (b"tRNS", b"\x12\x35"))).getpixel((1, 1)) == (0x12,) * 3
    assert seen(png(16, 6, deep + b"\0\0")).getpixel((1, 1)) == WHITE


def bmp_with_alpha(alpha: int) -> bytes:
    """2x2 blue pixels with masks for four channels."""
    pixels = bytes((255, 0, 0, alpha)) * 4
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, 2, 2, 1, 32, 3, len(pixels), 0, 0, 0, 0) + masks + bytes(52)
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(pixels), 0, 0, 14 + len(header)) + header + pixels


def test_a_bitmap_whose_alpha_was_left_empty_is_opaque() -> None:
    assert seen(bmp_with_alpha(0)).getpixel((0, 0)) == (0, 0, 255)
    assert seen(bmp_with_alpha(128)).getpixel((0, 0)) == (127, 127, 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_sixteen_bits_are_scaled(kind: str, dtype: str) -> None:
    ramp = np.linspace(0, 65535, 200).astype(np.uint16)[None].repeat(12, 0)
    data = saved(Image.fromarray(ramp.astype(dtype)), kind)
    assert np.array_equal(np.asarray(seen(data))[0, :, 0], ramp[0] >> 8)
    assert np.asarray(referred(data))[0, 20].tolist() == [255] * 3


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 127, 255]),
        (np.array([[0.0, 100.0, 255.0]], np.float32), [0, 100, 255]),
        (np.array([[0.0, 32768.0, 65535.0]], np.float32), [0, 127, 255]),
        (np.array([[-1.0, 0.0, 1.0]], np.float32), [0, 127, 255]),
        (np.array([[np.nan, np.inf, 1.0]], np.float32), [0, 0, 255]),
        (np.array([[0, 7, 255]], np.int32), [0, 7, 255]),
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
        (np.array([[0, 10**9, 2 * 10**9]], np.int32), [0, 127, 255]),
    ],
)
def test_floats_and_whole_numbers_are_scaled(values: np.ndarray, levels: list[int]) -> None:
    image = seen(saved(Image.fromarray(values), "TIFF"))
    assert np.asarray(image)[0, :, 0].tolist() == levels


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "MPO", "AVIF", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_exif_says(kind: str, orientation: int) -> None:
    """Once: where Pillow itself turns, the reference has it turned, too."""
    quarters = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    stored = Image.fromarray(quarters.repeat(16, 0).repeat(32, 1))
    exif = stored.getexif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {"subsampling": 0} if kind == "JPEG" else {}
    data = saved(stored, kind, exif=exif, **options)
    stored.getexif()[0x0112] = orientation
    wanted = np.asarray(ImageOps.exif_transpose(stored)).astype(int)
    found = seen(data)
    assert found.size == wanted.shape[1::-1]
    assert np.abs(np.asarray(found).astype(int) - wanted)[4:-4:8, 4:-4:8].max() < 90
    if kind != "TIFF":
        assert referred(data).size == stored.size


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(9)]
)
def test_a_damaged_exif_turns_nothing(exif: bytes) -> None:
    data = saved(Image.new("RGB", (30, 10)), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    assert seen(data[:2] + segment + data[2:]).size == (30, 10)
