"""Lossless compression of floating-point rows, byte plane by byte plane.

The high byte of a float holds its sign and most of its exponent, which repeat; the other bytes are noise that no
compressor can shorten. So the high bytes go through Zstandard and the rest is stored unchanged:

    uint32 length of the compressed plane | compressed high bytes | remaining bytes, plane by plane

At bfloat16 this takes about a third off. docs/benchmarks.md has what it costs.
"""

import struct

import numpy as np
import zstandard

from internvl.errors import EmbeddingInvalid

_LENGTH = struct.Struct("<I")
_LEVEL = 1
"""Higher levels were slower and no smaller: what is left is entropy."""


def compress(data: bytes | bytearray | memoryview, element_bytes: int) -> bytes:
    """`data` is little-endian elements of `element_bytes` each."""
    planes = np.frombuffer(data, np.uint8).reshape(-1, element_bytes).T
    high = zstandard.ZstdCompressor(level=_LEVEL).compress(planes[-1].tobytes())
    return b"".join((_LENGTH.pack(len(high)), high, planes[:-1].tobytes()))


def decompress(data: memoryview, element_bytes: int, size_bytes: int) -> bytearray:
    """The elements, `size_bytes` in all. Raises EmbeddingInvalid before anything larger than that is allocated."""
    plane_bytes = size_bytes // element_bytes
    if len(data) < _LENGTH.size or plane_bytes * element_bytes != size_bytes:
        raise EmbeddingInvalid("a compressed value of the wrong length")
    (high_bytes,) = _LENGTH.unpack_from(data)
    high, rest = data[_LENGTH.size : _LENGTH.size + high_bytes], data[_LENGTH.size + high_bytes :]
    if len(rest) != size_bytes - plane_bytes:
        raise EmbeddingInvalid("a compressed value of the wrong length")
    expanded = _expand(high, plane_bytes)
    elements = bytearray(size_bytes)
    planes = np.frombuffer(elements, np.uint8).reshape(-1, element_bytes).T
    planes[:-1] = np.frombuffer(rest, np.uint8).reshape(element_bytes - 1, plane_bytes)
    planes[-1] = np.frombuffer(expanded, np.uint8)
    return elements


def _expand(data: memoryview, size_bytes: int) -> bytes:
    try:
        if zstandard.get_frame_parameters(data).content_size != size_bytes:
            raise EmbeddingInvalid("a compressed value of the wrong length")
        return zstandard.ZstdDecompressor().decompress(data)
    except zstandard.ZstdError as error:
        raise EmbeddingInvalid("a compressed value that cannot be read") from error
