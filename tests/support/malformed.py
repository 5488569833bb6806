"""Files that are not what they say: cut off, flipped, bombs, of the wrong kind, or telling a decoder to look elsewhere.

`refused_pictures` and `refused_clips` can never be served; what `flipped` makes may still be whole enough.
"""

import io
import random
import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from PIL import Image

from tests.support.pictures import file_of

FORMATS = ("PNG", "BMP", "TIFF", "WEBP", "GIF", "JPEG")
MAX_PIXELS, MAX_SIDE, MAX_BYTES = 2_000_000, 20_000, 8_000_000
"""Limits that the bombs break."""
_SDP = b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 5004 RTP/AVP 96\r\n"
_ELSEWHERE = {
    "HLS": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/hostname\n#EXT-X-ENDLIST\n",
    "concat": b"ffconcat version 1.0\nfile /etc/hostname\n",
    "SDP": _SDP,
    "DASH": b'<?xml version="1.0"?><MPD profiles="urn:mpeg:dash:profile:isoff-live:2011"><Period/></MPD>',
    "PLS": b"[playlist]\nFile1=/etc/hostname\n",
    "M3U": b"/etc/hostname\n",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/hostname"/></svg>',
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/hostname) run\n",
    "MVG": b"push graphic-context\nimage over 0,0 0,0 '/etc/hostname'\n",
}
_OTHER_KINDS = {
    "nothing": b"",
    "one byte": b"\x89",
    "zeros": bytes(100_000),
    "text": b"hello " * 1000,
    "PDF": b"%PDF-1.7\n1 0 obj\n",
    "ZIP": b"PK\x03\x04" + bytes(100),
    "ELF": b"\x7fELF" + bytes(100),
    "noise": random.Random(0).randbytes(50_000),
    "too many bytes": bytes(MAX_BYTES + 1),
}


def refused_pictures(clip: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and file."""
    yield from ((name, data) for name, data in (_OTHER_KINDS | _ELSEWHERE).items())
    yield "a clip", clip
    yield "PPM", file_of(20, 20, kind="PPM")
    yield "ICO", file_of(32, 32, kind="ICO")
    yield "PNG's signature before a JPEG", file_of(9, 9)[:8] + file_of(200, 150, kind="JPEG")
    for kind in FORMATS:
        data = file_of(200, 150, kind=kind)
        yield from ((f"{kind}, {length} bytes of it", data[:length]) for length in (4, 12, 40))
        yield f"{kind}, a third of it", data[: len(data) // 3]
    for width, height in ((0, 0), (0, 9), (9, 0), (200_000, 200_000), (1, 30_000), (30_000, 1), (2**31 - 1, 1)):
        yield f"PNG that says {width}x{height}", _png(width, height)
    for width, height in ((0, 0), (65_535, 65_535)):
        yield f"GIF that says {width}x{height}", _gif(width, height)
        yield f"JPEG that says {width}x{height}", _jpeg(width, height)
        yield f"BMP that says {width}x{height}", _bmp(width, height)
    yield "BMP that says -5x-5", _bmp(-5, -5)
    yield "WebP that says 16383x16383", b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f\xff\xff\xff\x0f" + bytes(8)
    yield "a true bomb", _blank(1500, 1500)
    yield "a thread of a picture", file_of(1, MAX_SIDE + 1)


def refused_clips(clip: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and file, given a clip that can be read."""
    yield from ((name, data) for name, data in (_OTHER_KINDS | _ELSEWHERE).items())
    yield from ((f"a {kind}", file_of(64, 48, kind=kind)) for kind in FORMATS)
    yield "SDP that begins as Matroska does", b"\x1aE\xdf\xa3webm\n" + _SDP
    yield "SDP that begins as AVI does", b"RIFF\n\n\n\nAVI \n" + _SDP
    yield "SDP that begins as FLV does", b"FLV\1\n" + _SDP
    yield from ((f"{length} bytes of a clip", clip[:length]) for length in (8, 32, 100, len(clip) // 3, len(clip) // 2))
    yield "the index of a clip alone", clip[:28] + clip[clip.index(b"moov") - 4 :]
    yield "a clip whose data are zeros", _zeroed(clip)
    yield "a clip without frames", clip_of_pictures([], 1)
    yield "a clip of huge frames", clip_of_pictures([_blank(1500, 1500)], 3)
    yield "a clip of a bomb", clip_of_pictures([_png(200_000, 200_000)], 3)
    yield "a clip of noise", clip_of_pictures([random.Random(1).randbytes(5000)], 5)


def long_clip(frame_count: int) -> bytes:
    """Many frames of 16x16 pixels, all equal."""
    return clip_of_pictures([_blank(16, 16)], frame_count, size=(16, 16))


def long_animation(frame_count: int) -> bytes:
    """A GIF of many frames."""
    data = file_of(8, 8, kind="GIF")
    start = _first_frame(data)
    return data[:start] + data[start:-1] * frame_count + b";"


def flipped(data: bytes, seed: int) -> bytes:
    """With a few bits turned."""
    dice = random.Random(seed)
    damaged = bytearray(data)
    for _ in range(dice.choice((1, 3, 20, 200))):
        damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
    return bytes(damaged)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, *, extra: bytes = b"") -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + _chunk(b"IDAT", zlib.compress(bytes(1000))) + _chunk(b"IEND", b"")


def _gif(width: int, height: int) -> bytes:
    data = bytearray(file_of(10, 10, kind="GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    place = _first_frame(bytes(data))
    data[place + 5 : place + 9] = struct.pack("<HH", width, height)
    return bytes(data)


def _first_frame(gif: bytes) -> int:
    """Where it begins, behind the colour table."""
    return gif.index(b",", 13 + 3 * 2 ** ((gif[10] & 7) + 1))


def _jpeg(width: int, height: int) -> bytes:
    data = bytearray(file_of(16, 16, kind="JPEG"))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _bmp(width: int, height: int) -> bytes:
    data = bytearray(file_of(10, 10, kind="BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def _blank(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _animation(frame_count: int) -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), (40 * index % 256, 0, 0)) for index in range(frame_count)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def _zeroed(clip: bytes) -> bytes:
    start = clip.index(b"mdat") + 4
    end = max(start, clip.index(b"moov") - 4)
    return clip[:start] + bytes(end - start) + clip[end:]


def clip_of_pictures(pictures: list[bytes], frame_count: int, *, size: tuple[int, int] = (64, 48)) -> bytes:
    """A QuickTime file whose frames are these PNG files in turn, whatever is in them."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mov") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "rgb24"
        stream.time_base = Fraction(1, 25)
        if not pictures:
            blank = av.VideoFrame.from_ndarray(np.zeros((size[1], size[0], 3), np.uint8), format="rgb24")
            stream.encode(blank)
            container.start_encoding()
        for index in range(frame_count if pictures else 0):
            packet = av.Packet(pictures[index % len(pictures)])
            packet.stream, packet.pts, packet.dts, packet.duration = stream, index, index, 1
            packet.time_base, packet.is_keyframe = Fraction(1, 25), True
            container.mux(packet)
    return buffer.getvalue()
