"""One request end to end, on a tiny random checkpoint and a real Redis-compatible server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis
import torch

from internvl.errors import EmbeddingInvalid, ImageUnreadable, MediaExpired, QueueFull
from shared.checkpoint.config import ModelConfig
from shared.checkpoint.weights import VISION_PREFIXES, Checkpoint
from shared.content import media_id
from shared.store.embedding_store import EmbeddingStore, open_tile
from shared.store.framing import Codec
from shared.store.media_store import MediaStore
from shared.store.redis_store import RedisStore
from tests.support.checkpoints import write_random_checkpoint
from tests.support.decoders import ThreadDecoders
from tests.support.pictures import file_of
from tests.support.redis import RedisProcess
from tests.support.waiting import until
from vision_service.batcher import Batcher
from vision_service.copies.copies import Copies
from vision_service.copies.memory_copies import MemoryCopies
from vision_service.copies.replica_flight import ReplicaFlight
from vision_service.copies.write_behind import WriteBehind
from vision_service.decoder.job import ImageJob, Parts
from vision_service.encoder import Encoder, EncoderIdentity, EncoderLimits
from vision_service.image.decoding import ImageLimits, decode_image
from vision_service.image.pictures import Pictures
from vision_service.model.loading import load_visual_encoder
from vision_service.model.tower import VisualEncoder
from vision_service.pixels import normalize
from vision_service.tiles import TilingOptions, cut
from vision_service.video.sampling import VideoLimits

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
        self,
        model: VisualEncoder,
        redis_url: str,
        *,
        revision: str = "r1",
        weights: bytes = b"weights",
        shared: bool = False,
        codec: Codec = Codec.RAW,
        max_queued_tiles: int = 500,
    ) -> None:
        self.model = CountingEncoder(model)
        self.batcher = Batcher([self.model], tiles_per_batch=8, max_queued_tiles=max_queued_tiles)  # type: ignore[list-item]
        values = RedisStore(redis_url)
        self.redis = EmbeddingStore(values, seconds=60)
        self.memory = MemoryCopies(1 << 24, embedding_seconds=60, media_seconds=60)
        self.writes = WriteBehind(1 << 20)
        self.copies = Copies(self.memory, self.redis, MediaStore(values, seconds=60), self.writes)
        self.encoder = Encoder(
            ThreadDecoders(),
            self.batcher,
            self.copies,
            EncoderIdentity("tiny", revision, weights, share_between_tenants=shared),
            EncoderLimits(
                image=ImageLimits(1 << 24, 1 << 24, 1 << 14),
                video=VideoLimits(1 << 24, 1 << 24, 1 << 28),
                max_queued_decodes=100,
                pictures=Pictures.AS_SEEN,
            ),
            ReplicaFlight(values, wait_seconds=10, lease_seconds=1),
            codec=codec,
        )

    async def written(self) -> None:
        """Waits until nothing is on its way to Redis."""
        while self.writes._pending:
            await asyncio.wait(self.writes._pending.values())
        assert self.copies.pending_bytes == 0


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> VisualEncoder:
    return load(tiny_checkpoint)


def load(folder: Path) -> VisualEncoder:
    return load_visual_encoder(
        Checkpoint.from_folder(folder),
        ModelConfig.from_folder(folder),
        device=torch.device("cpu"),
        dtype=torch.float32,
        progress=lambda *_: None,
    )


def rows_of(model: VisualEncoder) -> torch.Tensor:
    """(3, 4, 64) of PICTURE."""
    with torch.no_grad():
        rows: torch.Tensor = model(
            normalize(cut(decode_image(PICTURE, ImageLimits(1 << 24, 1 << 24, 1 << 14)), TILING))
        )
    return rows


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
    encoded = await replica.encoder.encode_image("t", PICTURE, TILING)
    await replica.written()
    manifest = await replica.redis.find(encoded.key)
    assert manifest == encoded.manifest
    assert manifest is not None
    _, tiles = await replica.redis.read(encoded.key, range(3))
    stored = torch.frombuffer(bytearray().join(tiles), dtype=torch.float32).view(3, 4, 64)
    torch.testing.assert_close(stored, rows_of(model), atol=1e-5, rtol=1e-4)
    local = replica.encoder.read_local(encoded.key)
    assert [open_tile(encoded.key, index, value, manifest) for index, value in enumerate(local.tiles)] == tiles


async def test_by_id_on_any_replica_without_the_bytes(replica: Replica, other_replica: Replica) -> None:
    first = await replica.encoder.encode_image("t", PICTURE, TILING)
    await replica.written()
    same = await other_replica.encoder.encode_image("t", first.media_id, TILING)
    assert (same.key, same.cached) == (first.key, True)
    other_tiling = await other_replica.encoder.encode_image("t", first.media_id, TilingOptions(1, tile_size=56))
    assert other_tiling.key != first.key
    assert other_tiling.manifest.tile_count == 1
    assert other_replica.model.tile_count == 1


async def test_an_upload_is_known_everywhere_when_it_is_answered(replica: Replica, other_replica: Replica) -> None:
    identifier = await replica.encoder.put_media("t", PICTURE)
    assert (await other_replica.encoder.encode_image("t", identifier, TILING)).media_id == identifier


async def test_ids_are_bound_to_their_tenant(replica: Replica) -> None:
    first = await replica.encoder.encode_image("t", PICTURE, TILING)
    for identifier in (first.media_id, media_id("other", b"\0" * 32), "media_nonsense", "x" * 5000, "}{"):
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


async def test_a_miss_that_was_overtaken_encodes_nothing(replica: Replica) -> None:
    """It looked before the embedding was there, and comes after the flight has landed and before Redis has it."""
    moving = asyncio.Event()
    for index in range(2):
        await replica.writes.write(f"slow {index}", 1, moving.wait)
    first = await replica.encoder.encode_image("t", PICTURE, TILING)
    assert await replica.redis.find(first.key) is None

    class NothingToDo(ImageJob):
        def parts(self, data: bytes) -> Parts:
            raise AssertionError("there is nothing to do")

    job = NothingToDo(TILING, ImageLimits(1, 1, 1), Pictures.AS_SEEN)
    assert await replica.encoder._make_once(first.key, PICTURE, job) == first.manifest
    moving.set()


async def test_many_at_once_on_two_replicas_are_encoded_once(replica: Replica, other_replica: Replica) -> None:
    both = [replica.encoder, other_replica.encoder]
    results = await asyncio.gather(*(both[index % 2].encode_image("t", PICTURE, TILING) for index in range(64)))
    assert replica.model.tile_count + other_replica.model.tile_count == 3
    assert len({result.key for result in results}) == 1


async def test_a_replica_that_gives_up_hands_the_work_on(replica: Replica, other_replica: Replica) -> None:
    leader = asyncio.create_task(replica.encoder.encode_image("t", PICTURE, TILING))
    await until(lambda: replica.encoder._replica_flights._held, "the leader has its lease")
    follower = asyncio.create_task(other_replica.encoder.encode_image("t", PICTURE, TILING))
    await asyncio.sleep(0)
    leader.cancel()
    assert (await follower).manifest.tile_count == 3
    with pytest.raises(asyncio.CancelledError):
        await leader


async def test_a_tile_that_the_store_evicted_is_made_again(
    replica: Replica, other_replica: Replica, redis_url: str
) -> None:
    first = await replica.encoder.encode_image("t", PICTURE, TILING)
    await replica.written()
    with redis.Redis.from_url(redis_url) as client:
        client.delete(f"internvl:{{{first.key}}}:1")
    elsewhere = await other_replica.encoder.encode_image("t", PICTURE, TILING)
    assert not elsewhere.cached, "its manifest alone is of no use to anyone"
    await other_replica.written()
    assert len((await replica.redis.read(first.key, range(3)))[1]) == 3


async def test_what_only_memory_has_is_written_again(replica: Replica, redis_url: str) -> None:
    first = await replica.encoder.encode_image("t", PICTURE, TILING)
    await replica.written()
    with redis.Redis.from_url(redis_url) as client:
        client.delete(f"internvl:{{{first.key}}}:1")
    assert (await replica.encoder.encode_image("t", PICTURE, TILING)).cached
    await replica.written()
    assert len((await replica.redis.read(first.key, range(3)))[1]) == 3


async def test_a_hit_does_not_wait_for_writes(replica: Replica) -> None:
    """Not even when they are at a standstill, and no more of them are taken."""
    first = await replica.encoder.encode_image("t", PICTURE, TILING)
    await replica.written()
    moving = asyncio.Event()
    for index in range(4):
        await replica.writes.write(f"slow {index}", 1 << 18, moving.wait)
    new = asyncio.create_task(replica.encoder.encode_image("t", file_of(60, 60, seed=7), TILING))
    await until(lambda: replica.writes._waiting, "a miss waits for room")
    for source in (PICTURE, first.media_id):
        hit = asyncio.create_task(replica.encoder.encode_image("t", source, TILING))
        assert (await hit).cached
        assert not new.done()
    moving.set()
    assert not (await new).cached


async def test_looking_by_id_keeps_the_file_alive(replica: Replica, redis_url: str) -> None:
    first = await replica.encoder.encode_image("t", PICTURE, TILING)
    await replica.written()
    name = f"internvl:media:{{{first.media_id}}}:file"
    with redis.Redis.from_url(redis_url) as client:
        client.pexpire(name, 5_000)
        await replica.encoder.encode_image("t", first.media_id, TILING)
        await replica.written()
        assert client.pttl(name) > 50_000


async def test_tenants_share_only_if_the_operator_says_so(model: VisualEncoder, redis_url: str) -> None:
    replica = Replica(model, redis_url, shared=True)
    first = await replica.encoder.encode_image("a", PICTURE, TILING)
    second = await replica.encoder.encode_image("b", PICTURE, TILING)
    assert (second.key, second.cached) == (first.key, True)
    assert second.media_id != first.media_id, "ids stay with their tenant"
    with pytest.raises(MediaExpired):
        await replica.encoder.encode_image("b", first.media_id, TILING)
    await replica.encoder.close()


async def test_a_new_revision_beside_the_old_one(tmp_path: Path, redis_url: str, model: VisualEncoder) -> None:
    """A roll-out: both serve at once from one store, and nobody ever gets the other's rows, even under one name."""
    write_random_checkpoint(tmp_path, seed=1)
    checkpoint = Checkpoint.from_folder(tmp_path)
    newer_model = load(tmp_path)
    older = Replica(model, redis_url)
    newer = Replica(newer_model, redis_url, weights=checkpoint.content_digest(*VISION_PREFIXES))
    for _ in range(2):
        for replica in (older, newer):
            encoded = await replica.encoder.encode_image("t", PICTURE, TILING)
            await replica.written()
            _, tiles = await replica.redis.read(encoded.key, range(3))
            stored = torch.frombuffer(bytearray().join(tiles), dtype=torch.float32).view(3, 4, 64)
            torch.testing.assert_close(stored, rows_of(replica.model.model), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(rows_of(model), rows_of(newer_model), atol=1e-2)
    for replica in (older, newer):
        await replica.encoder.close()


async def test_compressed_is_read_as_the_same(model: VisualEncoder, redis_url: str) -> None:
    replica = Replica(model, redis_url, codec=Codec.PLANES)
    encoded = await replica.encoder.encode_image("t", PICTURE, TILING)
    await replica.written()
    _, tiles = await replica.redis.read(encoded.key, range(3))
    stored = torch.frombuffer(bytearray().join(tiles), dtype=torch.float32).view(3, 4, 64)
    torch.testing.assert_close(stored, rows_of(model), atol=1e-5, rtol=1e-4)
    await replica.encoder.close()


async def test_what_is_not_finite_is_not_kept(tmp_path: Path, redis_url: str) -> None:
    write_random_checkpoint(tmp_path)
    broken = load(tmp_path)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    replica = Replica(broken, redis_url)
    with pytest.raises(EmbeddingInvalid, match="not finite"):
        await replica.encoder.encode_image("t", PICTURE, TILING)
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys("*") == []
    await replica.encoder.close()


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
    await until(lambda: replica.batcher.queued_tile_count == 0, "nothing waits")


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
