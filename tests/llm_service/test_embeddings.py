"""Rows reach the engine whole and right, or not at all; the store may be gone as long as a holder has them."""

import asyncio
import math
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
import torch

from internvl.errors import EmbeddingInvalid, EmbeddingNotFound
from internvl.vision.v1 import vision_pb2, vision_pb2_grpc
from llm_service.conversation import Visual
from llm_service.embeddings import EmbeddingLoader
from shared.store.embedding_store import EmbeddingStore, Manifest, frame_tile
from shared.store.redis_store import RedisStore
from shared.store.value_store import MemoryStore

WIDTH, ROWS, TILES = 8, 4, 3
MANIFEST = Manifest(ROWS, WIDTH, "float32", (TILES,))
VISUAL = Visual("e" * 64, ROWS, (TILES,), is_clip=False, increment=256)
TENSOR = torch.randn(TILES * ROWS, WIDTH, generator=torch.Generator().manual_seed(0))


def framed(rows: torch.Tensor, manifest: Manifest = MANIFEST) -> list[bytes]:
    tiles = rows.view(-1, manifest.rows_per_tile * manifest.width)
    packed = [struct.pack(f"<{len(tile)}f", *tile.tolist()) for tile in tiles]
    return [frame_tile(VISUAL.key, index, tile, manifest) for index, tile in enumerate(packed)]


@pytest.fixture
def values() -> MemoryStore:
    return MemoryStore(1 << 20)


@pytest.fixture
async def store(values: MemoryStore) -> EmbeddingStore:
    return EmbeddingStore(values, seconds=60)


@pytest.fixture
async def loader(store: EmbeddingStore) -> AsyncIterator[EmbeddingLoader]:
    loader = EmbeddingLoader(store, hidden_size=WIDTH, max_message_bytes=1 << 20)
    yield loader
    await loader.close()


@pytest.mark.parametrize(("first", "last"), [(0, 12), (0, 1), (3, 5), (4, 8), (11, 12)])
async def test_any_range_of_rows(store: EmbeddingStore, loader: EmbeddingLoader, first: int, last: int) -> None:
    await store.put(VISUAL.key, MANIFEST, framed(TENSOR))
    assert torch.equal(await loader.load(VISUAL, first, last), TENSOR[first:last])


async def test_absent(loader: EmbeddingLoader) -> None:
    with pytest.raises(EmbeddingNotFound) as caught:
        await loader.load(VISUAL, 0, 12)
    assert caught.value.keys == [VISUAL.key]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
async def test_values_that_are_not_finite(store: EmbeddingStore, loader: EmbeddingLoader, bad: float) -> None:
    rows = TENSOR.clone()
    rows[5, 3] = bad
    await store.put(VISUAL.key, MANIFEST, framed(rows))
    with pytest.raises(EmbeddingInvalid, match="not finite"):
        await loader.load(VISUAL, 0, 12)
    assert await store.find(VISUAL.key) is None, "the next request would meet it again"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
async def test_values_are_told_apart_in_every_dtype(
    store: EmbeddingStore, loader: EmbeddingLoader, dtype: torch.dtype
) -> None:
    """The largest of both signs are finite; infinities and NaN of both signs, wherever they lie, are not."""
    largest = torch.finfo(dtype).max
    manifest = replace(MANIFEST, dtype=str(dtype).removeprefix("torch."))
    for value in (largest, -largest, 0.0, -0.0, torch.inf, -torch.inf, torch.nan, -torch.nan):
        rows = TENSOR.clone().to(dtype)
        rows[5, 3] = value
        raw = rows.view(TILES, -1).view(torch.uint8)
        tiles = [frame_tile(VISUAL.key, index, bytes(tile.tolist()), manifest) for index, tile in enumerate(raw)]
        await store.put(VISUAL.key, manifest, tiles)
        if math.isfinite(value):
            assert torch.equal(await loader.load(VISUAL, 0, 12), rows)
        else:
            with pytest.raises(EmbeddingInvalid, match="not finite"):
                await loader.load(VISUAL, 0, 12)


def test_the_check_leaves_all_other_cores_to_the_model() -> None:
    """A second team of OpenMP threads in the process would slow every decoding step: see ModelThread."""
    program = (
        "import os, torch\n"
        "from llm_service.embeddings import _to_tensor\n"
        "from shared.store.embedding_store import Manifest\n"
        "threads = lambda: len(os.listdir('/proc/self/task'))\n"
        "tile = memoryview(bytes(1 << 22))\n"
        "torch.set_num_threads(2)\n"
        "before = threads()\n"
        "_to_tensor([tile], Manifest(256, 8192, 'bfloat16', (1,)), 0, 256)\n"
        "after = threads()\n"
        "torch.aminmax(torch.zeros(1 << 21))\n"
        "print(after - before, threads() - after)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.split() == ["0", "1"], "the second: what a parallel operation would have shown"


@pytest.mark.parametrize(
    "manifest",
    [Manifest(ROWS, WIDTH + 1, "float32", (TILES,)), Manifest(ROWS - 1, WIDTH, "float32", (TILES,)),
     Manifest(ROWS, WIDTH, "float32", (1, TILES - 1))],
    ids=["width", "rows", "frames"],
)  # fmt: skip
async def test_another_shape_than_the_reference_says(
    store: EmbeddingStore, loader: EmbeddingLoader, manifest: Manifest
) -> None:
    rows = torch.zeros(TILES * manifest.rows_per_tile, manifest.width)
    await store.put(VISUAL.key, manifest, framed(rows, manifest))
    with pytest.raises(EmbeddingInvalid, match="expected"):
        await loader.load(VISUAL, 0, 4)


class Holder(vision_pb2_grpc.VisionServiceServicer):  # the other calls answer UNIMPLEMENTED
    """A vision replica with one embedding in memory."""

    values: tuple[bytes, ...] = (MANIFEST.pack(VISUAL.key), *framed(TENSOR))

    hangs_after: int | None = None

    async def ReadEmbedding(self, request: Any, context: Any) -> AsyncIterator[vision_pb2.ReadEmbeddingResponse]:  # noqa: N802
        for index, value in enumerate(self.values):
            if index == self.hangs_after:
                await asyncio.Event().wait()
            yield vision_pb2.ReadEmbeddingResponse(value=value)


@pytest.fixture
async def holder() -> AsyncIterator[Visual]:
    server = grpc.aio.server()
    vision_pb2_grpc.add_VisionServiceServicer_to_server(Holder(), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield replace(VISUAL, holder=f"127.0.0.1:{port}")
    await server.stop(None)


async def test_from_its_holder_when_the_store_lacks_it(loader: EmbeddingLoader, holder: Visual) -> None:
    assert torch.equal(await loader.load(holder, 2, 9), TENSOR[2:9])


async def test_from_its_holder_when_the_store_has_lost_a_tile(
    store: EmbeddingStore, values: MemoryStore, loader: EmbeddingLoader, holder: Visual
) -> None:
    await store.put(VISUAL.key, MANIFEST, framed(TENSOR))
    await values.delete([f"internvl:{{{VISUAL.key}}}:2"])
    assert torch.equal(await loader.load(holder, 0, 12), TENSOR)


async def test_from_its_holder_when_the_store_is_down(holder: Visual) -> None:
    down = EmbeddingStore(RedisStore("redis://127.0.0.1:1"), seconds=60)
    loader = EmbeddingLoader(down, hidden_size=WIDTH, max_message_bytes=1 << 20)
    assert torch.equal(await loader.load(holder, 0, 12), TENSOR)
    await loader.close()
    await down.close()


async def test_a_holder_that_is_gone(loader: EmbeddingLoader) -> None:
    with pytest.raises(EmbeddingNotFound):
        await loader.load(replace(VISUAL, holder="127.0.0.1:1"), 0, 12)


@pytest.mark.parametrize("sent_count", [0, 2])
async def test_a_holder_that_hangs_has_nothing(
    store: EmbeddingStore, holder: Visual, monkeypatch: pytest.MonkeyPatch, sent_count: int
) -> None:
    monkeypatch.setattr(Holder, "hangs_after", sent_count)
    loader = EmbeddingLoader(store, hidden_size=WIDTH, max_message_bytes=1 << 20, holder_seconds=0.3)
    with pytest.raises(EmbeddingNotFound):
        await asyncio.wait_for(loader.load(holder, 0, 12), 20)
    await loader.close()


async def test_a_holder_that_sends_too_little(
    loader: EmbeddingLoader, holder: Visual, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Holder, "values", Holder.values[:2])
    with pytest.raises(EmbeddingInvalid, match="1 tiles came, the manifest says 3"):
        await loader.load(holder, 0, 12)


async def test_a_holder_that_sends_too_much(
    loader: EmbeddingLoader, holder: Visual, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Holder, "values", Holder.values + 10_000 * Holder.values[1:2])
    with pytest.raises(EmbeddingInvalid, match="4 tiles came, the manifest says 3"):
        await loader.load(holder, 0, 12)


async def test_a_holder_that_mixes_up_its_tiles(
    loader: EmbeddingLoader, holder: Visual, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, first, second, third = Holder.values
    monkeypatch.setattr(Holder, "values", (manifest, second, first, third))
    with pytest.raises(EmbeddingInvalid, match="does not match its digest"):
        await loader.load(holder, 0, 12)


async def test_holders_come_and_go(loader: EmbeddingLoader, holder: Visual) -> None:
    for port in range(1, 100):
        with pytest.raises(EmbeddingNotFound):
            await loader.load(replace(VISUAL, holder=f"127.0.0.1:{port}"), 0, 4)
    assert len(loader._channels) <= 64
    assert torch.equal(await loader.load(holder, 0, 12), TENSOR)
