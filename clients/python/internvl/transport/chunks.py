"""A file as a stream of chunks, and back."""

from collections.abc import AsyncIterator, Iterator

from internvl.errors import BadOption

CHUNK_BYTES = 1 << 20
"""Most bytes of one chunk: large enough to be quick, well below any message limit."""


def chunks(data: bytes) -> Iterator[bytes]:
    """`data` in order, in pieces of at most CHUNK_BYTES."""
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


async def joined(pieces: AsyncIterator[bytes], *, size_bytes: int, max_bytes: int) -> bytes:
    """The file. Raises BadOption as soon as it turns out that the length is wrong or over the limit."""
    if not 0 < size_bytes <= max_bytes:
        raise BadOption(f"size_bytes must be 1 to {max_bytes}, got {size_bytes}", field="header.size_bytes")
    data = bytearray()
    async for piece in pieces:
        data += piece
        if len(data) > size_bytes:
            raise BadOption(f"more than the {size_bytes} bytes that the header announced", field="chunk")
    if len(data) != size_bytes:
        raise BadOption(f"{len(data)} bytes came, the header announced {size_bytes}", field="chunk")
    return bytes(data)
