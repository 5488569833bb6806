"""One request end to end, on a tiny random checkpoint and a real Redis-compatible server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch

from shared.checkpoint import VISION_PREFIXES, Checkpoint
from shared.content import media_id
from shared.embedding_store import EmbeddingStore, open_tile
from shared.errors import ImageUnreadable, MediaExpired, QueueFull
from shared.model_config import ModelConfig
from shared.value_store import MemoryStore, RedisStore
from tests.support.pictures import file_of
from tests.support.redis import RedisProcess
from vision_service.batcher import Batcher
from vision_service.copies import Copies
from vision_service.encoder import Encoder, EncoderIdentity, EncoderLimits
from vision_service.image import ImageLimits
from vision_service.model.loading import load_visual_encoder
from vision_service.model.tower import VisualEncoder
from vision_service.tiles import TilingOptions
from vision_service.video import VideoLimits

TILING = TilingOptions(4, tile_size=56)
PICTURE = file_of(130, 60)


class CountingEncoder(torch.nn.Module):
    """The real model, and how many tiles it has seen."""

    def __init__(self, model: VisualEncoder) -> None:
        super().__init__()
        self.model = model
        self.tile_count = 0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.tile_count += len(pixels)
        rows: torch.Tensor = self.model(pixels)
        return rows


class Replica:
    """One vision replica without its server."""

    def __init__(
        self, model: VisualEncoder, redis_url: str, *, revision: str = "r1", max_queued_tiles: int = 500
    ) -> None:
        self.model = CountingEncoder(model)
        self.batcher = Batcher(self.model, tiles_per_batch=8, max_queued_tiles=max_queued_tiles)  # type: ignore[arg-type]
        self.redis = EmbeddingStore(RedisStore(redis_url), embedding_seconds=60, media_seconds=60)
        self.copies = Copies(
            EmbeddingStore(MemoryStore(1 << 24), embedding_seconds=60, media_seconds=60),
            self.redis,
            write_behind_bytes=1 << 20,
        )
        self.encoder = Encoder(
            self.batcher,
            self.copies,
            EncoderIdentity("tiny", revision, b"weights", share_between_tenants=False),
            EncoderLimits(
                image=ImageLimits(1 << 24, 1 << 24, 1 << 14),
                video=VideoLimits(1 << 24, 1 << 24),
                max_queued_decodes=100,
                exif_orientation=False,
            ),
            decode_workers=2,
        )

    async def written(self) -> None:
        """Waits until nothing is on its way to Redis."""
        while self.copies._pending:
            await asyncio.wait(self.copies._pending)
        assert self.copies.pending_bytes == 0


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> VisualEncoder:
    checkpoint = Checkpoint.from_folder(tiny_checkpoint)
    config = ModelConfig.from_folder(tiny_checkpoint)
    assert checkpoint.names(*VISION_PREFIXES)
    return load_visual_encoder(
        checkpoint, config, device=torch.device("cpu"), dtype=torch.float32, progress=lambda *_: None
    )


@pytest.fixture
async def replica(model: VisualEncoder, redis_url: str) -> AsyncIterator[Replica]:
    replica = Replica(model, redis_url)
    yield replica
    await replica.encoder.close()


@pytest.fixture
async def other_replica(model: VisualEncoder, redis_url: str) -> AsyncIterator[Replica]:
    replica = Replica(model, redis_url)
    yield replica
    await replica.encoder.close()


async def test_the_second_time_nothing_is_encoded_on_any_replica(replica: Replica, other_replica: Replica) -> None:
    first = await replica.encoder.encode_image("t", PICTURE, TILING)
    again = await replica.encoder.encode_image("t", PICTURE, TILING)
    await replica.written()
    elsewhere = await other_replica.encoder.encode_image("t", PICTURE, TILING)
    assert (first.cached, again.cached, elsewhere.cached) == (False, True, True)
    assert first.key == again.key == elsewhere.key
    assert (replica.model.tile_count, other_replica.model.tile_count) == (3, 0)


async def test_what_redis_holds_is_what_the_model_said(replica: Replica, model: VisualEncoder) -> None:
    from vision_service.image import decode_image
    from vision_service.tiles import cut, normalize

    encoded = await replica.encoder.encode_image("t", PICTURE, TILING)
    await replica.written()
    manifest = await replica.redis.find(encoded.key)
    assert manifest == encoded.manifest
    assert manifest is not None
    tiles = await replica.redis.read_tiles(encoded.key, manifest, range(3))
    stored = torch.frombuffer(bytearray().join(tiles), dtype=torch.float32).view(3, 4, 64)
    wanted = model(normalize(cut(decode_image(PICTURE, ImageLimits(1 << 24, 1 << 24, 1 << 14)), TILING)))
    torch.testing.assert_close(stored, wanted, atol=1e-5, rtol=1e-4)
    _, local = await replica.encoder.read_local(encoded.key)
    assert [open_tile(value, manifest) for value in local] == tiles


async def test_by_id_on_any_replica_without_the_bytes(replica: Replica, other_replica: Replica) -> None:
    first = await replica.encoder.encode_image("t", PICTURE, TILING)
    await replica.written()
    same = await other_replica.encoder.encode_image("t", first.media_id, TILING)
    assert (same.key, same.cached) == (first.key, True)
    other_tiling = await other_replica.encoder.encode_image("t", first.media_id, TilingOptions(1, tile_size=56))
    assert other_tiling.key != first.key
    assert other_tiling.manifest.tile_count == 1
    assert other_replica.model.tile_count == 1


async def test_ids_are_bound_to_their_tenant(replica: Replica) -> None:
    first = await replica.encoder.encode_image("t", PICTURE, TILING)
    for identifier in (first.media_id, media_id("other", b"\0" * 32), "media_nonsense", "x" * 5000):
        with pytest.raises(MediaExpired):
            await replica.encoder.encode_image("other", identifier, TILING)


async def test_tenants_and_revisions_share_nothing(replica: Replica, model: VisualEncoder, redis_url: str) -> None:
    newer = Replica(model, redis_url, revision="r2")
    keys = {
        (await replica.encoder.encode_image("a", PICTURE, TILING)).key,
        (await replica.encoder.encode_image("b", PICTURE, TILING)).key,
        (await newer.encoder.encode_image("a", PICTURE, TILING)).key,
        (await replica.encoder.encode_image("a", PICTURE, TilingOptions(2, tile_size=56))).key,
    }
    await newer.encoder.close()
    assert len(keys) == 4


async def test_many_at_once_are_encoded_once(replica: Replica) -> None:
    results = await asyncio.gather(*(replica.encoder.encode_image("t", PICTURE, TILING) for _ in range(64)))
    assert replica.model.tile_count == 3
    assert len({result.key for result in results}) == 1


async def test_the_first_of_many_is_cancelled(replica: Replica) -> None:
    tasks = [asyncio.create_task(replica.encoder.encode_image("t", PICTURE, TILING)) for _ in range(5)]
    await asyncio.sleep(0.002)
    tasks[0].cancel()
    rest = await asyncio.gather(*tasks[1:])
    assert len({result.key for result in rest}) == 1
    assert replica.model.tile_count == 3


async def test_cancelled_requests_leave_the_queue(replica: Replica) -> None:
    pictures = [file_of(130, 60, seed=index) for index in range(30)]
    tasks = [asyncio.create_task(replica.encoder.encode_image("t", picture, TILING)) for picture in pictures]
    await asyncio.sleep(0.02)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.05)
    assert replica.batcher.queued_tile_count == 0


async def test_a_full_queue_refuses(model: VisualEncoder, redis_url: str) -> None:
    replica = Replica(model, redis_url, max_queued_tiles=4)
    pictures = [file_of(130, 60, seed=index) for index in range(20)]
    results = await asyncio.gather(
        *(replica.encoder.encode_image("t", picture, TILING) for picture in pictures), return_exceptions=True
    )
    await replica.encoder.close()
    assert {type(result) for result in results} > {QueueFull}


async def test_a_bad_picture_leaves_nothing_behind(replica: Replica) -> None:
    with pytest.raises(ImageUnreadable):
        await replica.encoder.encode_image("t", b"no picture", TILING)
    assert (await replica.encoder.encode_image("t", PICTURE, TILING)).cached is False


async def test_without_redis_it_is_slower_and_not_broken(model: VisualEncoder, own_redis: RedisProcess) -> None:
    replica = Replica(model, own_redis.url)
    first = await replica.encoder.encode_image("t", PICTURE, TILING)
    await replica.written()
    own_redis.stop()
    again = await replica.encoder.encode_image("t", first.media_id, TILING)
    new = await replica.encoder.encode_image("t", file_of(60, 60, seed=5), TILING)
    await replica.written()
    assert (again.cached, new.cached, replica.copies.is_degraded) == (True, False, True)

    own_redis.start()
    await replica.encoder.encode_image("t", first.media_id, TILING)
    await replica.written()
    assert not replica.copies.is_degraded
    assert await replica.redis.find(first.key) == first.manifest
    await replica.encoder.close()
