"""Layout of a value in the store, and the checks by which a reader knows that it is the right one.

    0   magic "IVLE"      4 version   5 kind   6 dtype   7 codec
    8   rows, uint32     12 width, uint32     16 payload bytes before compression, uint64
    24  XXH3-128 over the value's name, the 24 bytes above and the payload as stored
    40  zeros up to 64, so that the payload is aligned
    64  payload

The digest covers the name: a value that turns up under another name, because a proxy or a client mixed up its answers,
is as bad as one with a flipped bit. It guards against accidents. A writer to the store could forge any digest
without a secret, SHA-256 as well; that is what Redis users and TLS are for. Nothing read here is ever unpickled.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

import xxhash

from internvl.errors import EmbeddingInvalid
from shared.store import compression

Value = bytes | bytearray
"""A value as a store holds it."""

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
HEADER_BYTES = 64
_DTYPES = tuple(DTYPE_BYTES)
_START = struct.Struct("<4sBBBBIIQ")
_DIGEST_BYTES = 16
_MAGIC, _VERSION = b"IVLE", 2
_PADDING = bytes(HEADER_BYTES - _START.size - _DIGEST_BYTES)


class ValueKind(IntEnum):
    """Kind of the payload after a header."""

    MANIFEST = 1
    TILE = 2
    MEDIA = 3
    CHUNK = 4


class Codec(IntEnum):
    """How the payload is stored."""

    RAW = 0
    PLANES = 1
    """See shared/store/compression.py."""


@dataclass(frozen=True)
class Header:
    """Description of a payload, from its header."""

    dtype: str
    rows: int
    width: int


def frame(
    name: str,
    kind: ValueKind,
    payload: Value | memoryview,
    *,
    dtype: str = "float32",
    rows: int = 0,
    width: int = 0,
    codec: Codec = Codec.RAW,
) -> bytes:
    """The value to store under `name`: one copy of the payload."""
    start = _START.pack(_MAGIC, _VERSION, kind, _DTYPES.index(dtype), codec, rows, width, len(payload))
    if codec is Codec.PLANES:
        payload = compression.compress(payload, DTYPE_BYTES[dtype])
    return b"".join((start, _digest(name, start, payload), _PADDING, payload))


def unframe(name: str, kind: ValueKind, value: Value) -> tuple[Header, memoryview]:
    """Header and payload, the latter not copied unless it is compressed. Raises EmbeddingInvalid."""
    if len(value) < HEADER_BYTES:
        raise EmbeddingInvalid(f"a value of {len(value)} bytes is shorter than its header")
    view = memoryview(value)
    start, payload = view[: _START.size], view[HEADER_BYTES:]
    magic, version, found, dtype, codec, rows, width, size = _START.unpack(start)
    if (magic, version, found) != (_MAGIC, _VERSION, kind) or dtype >= len(_DTYPES) or codec >= len(Codec):
        raise EmbeddingInvalid(f"not a {kind.name.lower()} of version {_VERSION}")
    expected = _digest(name, start, payload) + _PADDING
    if expected != view[_START.size : HEADER_BYTES]:
        raise EmbeddingInvalid(f"a {kind.name.lower()} does not match its digest")
    if codec == Codec.PLANES:
        payload = memoryview(compression.decompress(payload, DTYPE_BYTES[_DTYPES[dtype]], size))
    if len(payload) != size:
        raise EmbeddingInvalid(f"a {kind.name.lower()} has {len(payload)} bytes, its header says {size}")
    return Header(_DTYPES[dtype], rows, width), payload


def _digest(name: str, start: bytes | memoryview, payload: Value | memoryview) -> bytes:
    label = name.encode()
    digest = xxhash.xxh3_128(struct.pack("<I", len(label)))
    digest.update(label)
    digest.update(start)
    digest.update(payload)
    return digest.digest()
