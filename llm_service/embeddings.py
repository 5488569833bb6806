"""Rows of visual tokens, fetched when the model needs them and checked before it sees them: step 8 of the data's path.

From the store, or from the vision replica that made them where the store lacks them or does not answer. Nothing that
fails a check reaches the engine: one bad embedding fails one request.
"""

import asyncio
import logging
from collections.abc import Sequence

import grpc
import torch

from llm_service.conversation import Visual
from shared import telemetry
from shared.channel import open_channel
from shared.embedding_store import EmbeddingStore, Manifest, open_tile
from shared.errors import EmbeddingInvalid, EmbeddingNotFound, StoreUnavailable
from shared.pb.internvl.vision.v1 import vision_pb2, vision_pb2_grpc

log = logging.getLogger(__name__)
_PULL_SECONDS = 30.0


class EmbeddingLoader:
    """Loads rows (R, D) of any embedding."""

    def __init__(self, store: EmbeddingStore, *, hidden_size: int, max_message_bytes: int) -> None:
        self._store = store
        self._hidden_size = hidden_size
        self._max_message_bytes = max_message_bytes
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def load(self, visual: Visual, first_row: int, last_row: int) -> torch.Tensor:
        """Rows [first_row, last_row) of a visual, (last_row - first_row, D) in the stored dtype, on the CPU.

        Raises EmbeddingNotFound when nobody has them, EmbeddingInvalid when they are not what the reference says or not
        finite.
        """
        first_tile = first_row // visual.tokens_per_tile
        last_tile = -(-last_row // visual.tokens_per_tile)
        try:
            manifest, tiles = await self._from_store(visual, range(first_tile, last_tile))
        except (EmbeddingNotFound, StoreUnavailable) as error:
            log.info("pulling an embedding from its holder", extra={"cause": error.reason()})
            manifest, tiles = await self._from_holder(visual, range(first_tile, last_tile))
        rows = await asyncio.to_thread(_to_tensor, tiles, manifest)
        offset = first_tile * visual.tokens_per_tile
        return rows[first_row - offset : last_row - offset]

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def _from_store(self, visual: Visual, tiles: range) -> tuple[Manifest, list[memoryview]]:
        manifest = await self._store.find(visual.key)
        if manifest is None:
            raise EmbeddingNotFound.of([visual.key])
        self._check(manifest, visual)
        return manifest, await self._store.read_tiles(visual.key, manifest, tiles)

    async def _from_holder(self, visual: Visual, tiles: range) -> tuple[Manifest, list[memoryview]]:
        if not visual.holder:
            raise EmbeddingNotFound.of([visual.key])
        stub = vision_pb2_grpc.VisionServiceStub(self._channel(visual.holder))
        request = vision_pb2.ReadEmbeddingRequest(key=visual.key)
        call = stub.ReadEmbedding(request, timeout=_PULL_SECONDS, metadata=telemetry.outgoing_metadata())
        try:
            values = [response.value async for response in call]
        except grpc.aio.AioRpcError as error:
            raise EmbeddingNotFound.of([visual.key]) from error
        if not values:
            raise EmbeddingNotFound.of([visual.key])
        manifest = Manifest.unpack(values[0])
        self._check(manifest, visual)
        if len(values) != 1 + manifest.tile_count:
            raise EmbeddingInvalid(f"{len(values) - 1} tiles came, the manifest says {manifest.tile_count}")
        return manifest, [open_tile(values[1 + index], manifest) for index in tiles]

    def _check(self, manifest: Manifest, visual: Visual) -> None:
        found = (manifest.part_tile_counts, manifest.rows_per_tile, manifest.width)
        wanted = (visual.frame_tile_counts, visual.tokens_per_tile, self._hidden_size)
        if found != wanted:
            raise EmbeddingInvalid(f"an embedding is {found} (tiles, rows a tile, width), expected {wanted}")

    def _channel(self, address: str) -> grpc.aio.Channel:
        if address not in self._channels:
            self._channels[address] = open_channel(address, max_message_bytes=self._max_message_bytes)
        return self._channels[address]


def _to_tensor(tiles: Sequence[memoryview], manifest: Manifest) -> torch.Tensor:
    """(R, D) over all tiles, one copy. Raises EmbeddingInvalid for values that are not finite."""
    data = bytearray().join(tiles)
    rows = torch.frombuffer(data, dtype=getattr(torch, manifest.dtype)).view(-1, manifest.width)
    if not bool(torch.isfinite(rows).all()):
        raise EmbeddingInvalid("an embedding holds values that are not finite")
    return rows
