"""PNG files without what is not shown: texts and profiles of any size, and side chunks that are damaged."""

import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NOT_SHOWN = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_FRAME_BYTES = 12  # length, type, check sum


def shown_chunks(data: bytes) -> bytes:
    """The file without the chunks that no pixel depends on, unread, and without ancillary ones of a wrong check sum.

    What cannot be followed as chunks is left as it stands. Copies only when something is left out.
    """
    kept, place, is_whole = [], len(SIGNATURE), True
    for start, end in _chunks(data):
        if _is_shown(data, start, end):
            continue
        kept.append(memoryview(data)[place:start])
        place, is_whole = end, False
    if is_whole:
        return data
    return b"".join([SIGNATURE, *kept, memoryview(data)[place:]])


def _chunks(data: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each whole chunk."""
    start = len(SIGNATURE)
    while start + _FRAME_BYTES <= len(data):
        end = start + _FRAME_BYTES + int.from_bytes(data[start : start + 4], "big")
        if end > len(data):
            return
        yield start, end
        start = end


def _is_shown(data: bytes, start: int, end: int) -> bool:
    kind = data[start + 4 : start + 8]
    is_ancillary = bool(kind[0] & 0x20)
    if not is_ancillary:
        return True
    if kind in _NOT_SHOWN:
        return False
    return zlib.crc32(memoryview(data)[start + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")
