"""Texts and profiles of any size are left out, unread; pixels stay."""

import io
import zlib

import pytest
from PIL import Image, PngImagePlugin

from tests.support.pictures import file_of
from vision_service.image.decoding import ImageLimits, decode_image
from vision_service.image.png_chunks import shown_chunks

LIMITS = ImageLimits(max_bytes=10_000_000, max_pixels=2_000_000, max_side=20_000)


def saved(**options: object) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(file_of(20, 10))).save(buffer, "PNG", **options)
    return buffer.getvalue()


def with_text(size: int, *, is_compressed: bool) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * size, zip=is_compressed)
    info.add_itxt("prompt", "y" * size, zip=is_compressed)
    return saved(pnginfo=info)


@pytest.mark.parametrize("is_compressed", [True, False])
@pytest.mark.parametrize("size", [1, 2 << 20])
def test_texts_of_any_size(size: int, is_compressed: bool) -> None:
    data = with_text(size, is_compressed=is_compressed)
    assert decode_image(data, LIMITS).tobytes() == decode_image(file_of(20, 10), LIMITS).tobytes()
    assert not any(kind in shown_chunks(data) for kind in (b"tEXt", b"zTXt", b"iTXt"))


def test_profiles_of_any_size() -> None:
    data = saved(icc_profile=bytes(3 << 20))
    assert decode_image(data, LIMITS).tobytes() == decode_image(file_of(20, 10), LIMITS).tobytes()


def test_a_bomb_in_a_text_is_never_inflated() -> None:
    bomb = b"x\0\0" + zlib.compress(bytes(100_000_000), 9)
    data = saved()
    chunk = len(bomb).to_bytes(4, "big") + b"zTXt" + bomb + zlib.crc32(b"zTXt" + bomb).to_bytes(4, "big")
    assert shown_chunks(data[:33] + chunk + data[33:]) == data


def test_a_side_chunk_with_a_wrong_check_sum() -> None:
    data = saved(dpi=(300, 300))
    place = data.index(b"pHYs")
    damaged = data[: place + 6] + bytes((data[place + 6] ^ 1,)) + data[place + 7 :]
    assert decode_image(damaged, LIMITS).size == (20, 10)
    assert shown_chunks(data) is data


def test_whatever_is_no_chunk_stays() -> None:
    data = saved()
    for odd in (b"", data[:20], data[:50], data + b"tail", data[:8] + bytes(100), data[:8] + b"\xff" * 100):
        assert shown_chunks(odd) == odd
