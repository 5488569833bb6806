"""Kind of a file, by its first bytes: enough to choose a reader, and to refuse a file by its name.

Looks at no more than the beginning, and decodes nothing.
"""

import re
from dataclasses import dataclass
from enum import Enum

HEAD_BYTES = 1024
"""Bytes that are looked at."""


class Medium(Enum):
    """Name that a person would give the kind."""

    IMAGE = "an image"
    VIDEO = "a video"
    OTHER = "neither an image nor a video"


@dataclass(frozen=True)
class FileKind:
    """A kind of file, by the name that people know it under."""

    name: str
    medium: Medium


JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF, HEIC = (
    FileKind(name, Medium.IMAGE) for name in ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF", "HEIC")
)
MP4, MATROSKA, AVI, FLV, MPEG_PS, MPEG_TS, MPEG_ES, H264, HEVC, OGG = (
    FileKind(name, Medium.VIDEO)
    for name in (
        "MP4 or MOV", "Matroska or WebM", "AVI", "FLV", "MPEG-PS", "MPEG-TS", "MPEG-1 or MPEG-2",
        "raw H.264", "raw HEVC", "Ogg",
    )
)  # fmt: skip
_JPEG_2000 = FileKind("JPEG 2000", Medium.IMAGE)
_BEGINNINGS = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"GIF8", GIF),
    (b"BM", BMP),
    (b"II*\0", TIFF),
    (b"MM\0*", TIFF),
    (b"II+\0", TIFF),
    (b"MM\0+", TIFF),
    (b"FLV\1", FLV),
    (b"OggS", OGG),
    (b"\0\0\1\xba", MPEG_PS),
    (b"\0\0\1\xb3", MPEG_ES),
    (b"\0\0\0\x0cjP  \r\n\x87\n", _JPEG_2000),
    (b"\xffO\xffQ", _JPEG_2000),
    (b"\xff\x0a", FileKind("JPEG XL", Medium.IMAGE)),
    (b"\0\0\0\x0cJXL \r\n\x87\n", FileKind("JPEG XL", Medium.IMAGE)),
    (b"\0\0\1\0", FileKind("Windows icon", Medium.IMAGE)),
    (b"8BPS", FileKind("Photoshop", Medium.IMAGE)),
    (b"0&\xb2u\x8ef\xcf\x11", FileKind("Windows Media", Medium.OTHER)),
    (b".RMF", FileKind("RealMedia", Medium.OTHER)),
    (b"%PDF", FileKind("PDF", Medium.OTHER)),
    (b"%!PS", FileKind("PostScript", Medium.OTHER)),
    (b"PK\3\4", FileKind("ZIP", Medium.OTHER)),
    (b"\x1f\x8b", FileKind("gzip", Medium.OTHER)),
    (b"#EXTM3U", FileKind("HLS playlist", Medium.OTHER)),
    (b"RIFX", FileKind("RIFX", Medium.OTHER)),
    (b"version https://git-lfs", FileKind("git-lfs pointer", Medium.OTHER)),
)
_BY_CONTENT = (
    (
        re.compile(rb"\xef?\xbb?\xbf?\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*|<!DOCTYPE[^>]*>\s*)*<svg[\s/>]", re.DOTALL),
        FileKind("SVG", Medium.IMAGE),
    ),
    (re.compile(rb"\s*<(!doctype html|html)", re.IGNORECASE), FileKind("HTML page", Medium.OTHER)),
    (re.compile(rb"P[1-7]\s"), FileKind("Netpbm", Medium.IMAGE)),
)
_BOX_TYPES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"moof", b"styp")
_AVIF_BRANDS = (b"avif", b"avis")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_TS_PACKET_BYTES = (188, 192, 204)
_H264_FIRST = (7, 9)  # sequence parameters, delimiter
_HEVC_FIRST = (32, 33, 35)  # video parameters, sequence parameters, delimiter


def file_kind(data: bytes) -> FileKind | None:
    """Kind of the file; None where its first bytes do not tell."""
    head = data[:HEAD_BYTES]
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning):
            return kind
    if head[:4] == b"RIFF":
        return {b"WEBP": WEBP, b"AVI ": AVI}.get(head[8:12])
    if head[4:8] in _BOX_TYPES and head[:1] == b"\0":
        return _boxes(head)
    if head[:4] == b"\x1aE\xdf\xa3":
        return MATROSKA if b"matroska" in head[:64] or b"webm" in head[:64] else None
    return _stream(head) or _text(head)


def _boxes(head: bytes) -> FileKind:
    """ISO base media: the brands tell images from videos."""
    if head[4:8] != b"ftyp":
        return MP4
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[place : place + 4] for place in range(16, end, 4))]
    if brands[0] in (*_AVIF_BRANDS, *_HEIC_BRANDS):
        return AVIF if any(brand in _AVIF_BRANDS for brand in brands) else HEIC
    return MP4


def _stream(head: bytes) -> FileKind | None:
    """Elementary and transport streams, which have no signature: several of their marks in a row."""
    for size in _TS_PACKET_BYTES:
        offset = 4 if size == 192 else 0
        if len(head) > offset + 2 * size and all(head[offset + size * index] == 0x47 for index in range(3)):
            return MPEG_TS
    start = 4 if head[:4] == b"\0\0\0\1" else 3
    if head[:start] not in (b"\0\0\0\1", b"\0\0\1") or len(head) <= start:
        return None
    unit = head[start]
    if unit & 0x9F in _H264_FIRST:
        return H264
    return HEVC if unit & 0x81 == 0 and unit >> 1 in _HEVC_FIRST else None


def _text(head: bytes) -> FileKind | None:
    return next((kind for pattern, kind in _BY_CONTENT if pattern.match(head)), None)
