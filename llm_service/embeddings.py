"""Rows of visual tokens, fetched when the model needs them and checked before it sees them: step 8 of the data's path.

From the store, or from the vision replica that made them where the store lacks them or does not answer. Nothing that
fails a check reaches the engine: one bad embedding fails one request.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

import grpc
import torch

from internvl.errors import EmbeddingInvalid, EmbeddingNotFound, InternvlError, StoreUnavailable
from internvl.transport.channel import DEFAULT_KEEPALIVE, Keepalive, open_channel
from internvl.transport.status import translated
from internvl.vision.v1 import vision_pb2, vision_pb2_grpc
from llm_service.conversation import Visual
from llm_service.metrics import FETCH_SECONDS, PULLS
from shared.serving.request_context import outgoing_metadata
from shared.serving.tls import PeerTls
from shared.serving.tracing import span
from shared.store.embedding_store import INLINE_BYTES, EmbeddingStore, Manifest, open_tile

log = logging.getLogger(__name__)
_PULL_SECONDS = 30.0
_MAX_CHANNELS = 64
_INTEGERS = {2: torch.int16, 4: torch.int32}
"""By bytes of an element."""


class EmbeddingLoader:
    """Loads rows (R, D) of any embedding."""

    def __init__(
        self,
        store: EmbeddingStore,
        *,
        hidden_size: int,
        max_message_bytes: int,
        tls: PeerTls | None = None,
        holder_seconds: float = 5.0,
        keepalive: Keepalive = DEFAULT_KEEPALIVE,
    ) -> None:
        """`holder_seconds`: how long a vision replica that is asked for an embedding may stay silent."""
        self._store = store
        self._hidden_size = hidden_size
        self._max_message_bytes = max_message_bytes
        self._tls = tls
        self._holder_seconds = holder_seconds
        self._keepalive = keepalive
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def load(self, visual: Visual, first_row: int, last_row: int) -> torch.Tensor:
        """Rows [first_row, last_row) of a visual, (last_row - first_row, D) in the stored dtype, on the CPU.

        Two copies: the kernel's into a tile's buffer, and from there into the tensor. Raises EmbeddingNotFound when
        no place has them, EmbeddingInvalid when they are not what the reference says or not finite.
        """
        with span("fetch", rows=last_row - first_row), FETCH_SECONDS.time():
            return await self._load(visual, first_row, last_row)

    async def _load(self, visual: Visual, first_row: int, last_row: int) -> torch.Tensor:
        tiles = range(first_row // visual.tokens_per_tile, -(-last_row // visual.tokens_per_tile))
        try:
            manifest, found = await self._from_store(visual, tiles)
        except (EmbeddingNotFound, StoreUnavailable) as error:
            PULLS.inc()
            log.info("pulling an embedding from its holder", extra={"cause": error.reason()})
            manifest, found = await self._from_holder(visual, tiles)
        start = first_row - tiles.start * visual.tokens_per_tile
        arguments = (found, manifest, start, last_row - first_row)
        is_large = (last_row - first_row) * manifest.row_bytes > INLINE_BYTES
        rows, is_finite = await asyncio.to_thread(_to_tensor, *arguments) if is_large else _to_tensor(*arguments)
        if not is_finite:
            await self._discard(visual, manifest)
            raise EmbeddingInvalid("an embedding holds values that are not finite")
        return rows

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def _from_store(self, visual: Visual, tiles: range) -> tuple[Manifest, list[memoryview]]:
        manifest, found = await self._store.read(visual.key, tiles)
        self._check(manifest, visual)
        return manifest, found

    async def _from_holder(self, visual: Visual, tiles: range) -> tuple[Manifest, list[memoryview]]:
        if not visual.holder:
            raise EmbeddingNotFound.of([visual.key])
        values = await self._pull(visual)
        manifest = Manifest.unpack(visual.key, values[0])
        self._check(manifest, visual)
        if len(values) != 1 + manifest.tile_count:
            raise EmbeddingInvalid(f"{len(values) - 1} tiles came, the manifest says {manifest.tile_count}")
        return manifest, await asyncio.to_thread(
            lambda: [open_tile(visual.key, index, values[1 + index], manifest) for index in tiles]
        )

    async def _pull(self, visual: Visual) -> list[bytes]:
        """Manifest and tiles, one more at most than there should be. A holder that hangs has nothing."""
        stub = vision_pb2_grpc.VisionServiceStub(await self._channel(visual.holder))
        request = vision_pb2.ReadEmbeddingRequest(key=visual.key)
        call = stub.ReadEmbedding(request, timeout=_PULL_SECONDS, metadata=outgoing_metadata())
        values: list[bytes] = []
        now = asyncio.get_running_loop().time
        try:
            with translated():
                async with asyncio.timeout(self._holder_seconds) as silence:
                    async for response in call:
                        silence.reschedule(now() + self._holder_seconds)
                        values.append(response.value)
                        if len(values) > 1 + visual.tile_count:
                            break
        except (InternvlError, TimeoutError) as error:
            raise EmbeddingNotFound.of([visual.key]) from error
        finally:
            call.cancel()
        if not values:
            raise EmbeddingNotFound.of([visual.key])
        return values

    async def _discard(self, visual: Visual, manifest: Manifest) -> None:
        """Discards it, so that the next request has it made again."""
        with suppress(StoreUnavailable):
            await self._store.discard(visual.key, manifest.tile_count)

    def _check(self, manifest: Manifest, visual: Visual) -> None:
        found = (manifest.part_tile_counts, manifest.rows_per_tile, manifest.width)
        wanted = (visual.frame_tile_counts, visual.tokens_per_tile, self._hidden_size)
        if found != wanted:
            raise EmbeddingInvalid(f"an embedding is {found} (tiles, rows a tile, width), expected {wanted}")

    async def _channel(self, address: str) -> grpc.aio.Channel:
        if address not in self._channels:
            if len(self._channels) >= _MAX_CHANNELS:  # replicas come and go; who they were is forgotten
                await self._channels.pop(next(iter(self._channels))).close(_PULL_SECONDS)
            self._channels[address] = open_channel(
                address,
                max_message_bytes=self._max_message_bytes,
                credentials=None if self._tls is None else self._tls.credentials(),
                server_name="" if self._tls is None else self._tls.name,
                keepalive=self._keepalive,
            )
        return self._channels[address]


def _to_tensor(
    tiles: Sequence[memoryview], manifest: Manifest, first_row: int, row_count: int
) -> tuple[torch.Tensor, bool]:
    """Rows [first_row, first_row + row_count) of consecutive tiles, (row_count, D), and whether all are finite."""
    rows = torch.empty((row_count, manifest.width), dtype=getattr(torch, manifest.dtype))
    target = rows.view(torch.uint8).numpy().data.cast("B")
    at, skip = 0, first_row * manifest.row_bytes
    for tile in tiles:
        part = tile[skip : skip + len(target) - at]
        target[at : at + len(part)] = part
        at, skip = at + len(part), 0
    assert at == len(target)
    return rows, _is_finite(rows)


def _is_finite(rows: torch.Tensor) -> bool:
    """Whether no value is infinite or NaN. On one core: the others are the model's (see ModelThread).

    As integers, values that are not finite are the greatest of each sign: the negative ones among all bit patterns read
    without a sign, the positive ones among those read with it.
    """
    kind = _INTEGERS[rows.itemsize]
    signed = rows.view(kind).numpy()
    unsigned = signed.view(f"u{signed.dtype}")
    infinity, minus_infinity = torch.tensor([torch.inf, -torch.inf], dtype=rows.dtype).view(kind).numpy()
    return bool(signed.max() < infinity and unsigned.max() < minus_infinity.view(unsigned.dtype))
