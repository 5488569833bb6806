"""An embedding is there whole and right, or it is not there."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.content import content_digest, content_key, media_id
from shared.embedding_store import EmbeddingStore, Manifest, frame_tile, open_tile
from shared.errors import EmbeddingInvalid, EmbeddingNotFound, MediaExpired
from shared.value_store import MemoryStore, RedisStore

MANIFEST = Manifest(4, 8, "bfloat16", (2, 1))
KEY = "ab" * 32
TILES = [frame_tile(bytes([index]) * MANIFEST.tile_bytes, MANIFEST) for index in range(3)]


@pytest.fixture
def values() -> MemoryStore:
    return MemoryStore(1 << 20)


@pytest.fixture
def store(values: MemoryStore) -> EmbeddingStore:
    return EmbeddingStore(values, embedding_seconds=60, media_seconds=60)


async def test_round_trip(store: EmbeddingStore) -> None:
    await store.put(KEY, MANIFEST, TILES)
    assert await store.find(KEY) == MANIFEST
    tiles = await store.read_tiles(KEY, MANIFEST, [2, 0])
    assert [bytes(tile) for tile in tiles] == [b"\2" * MANIFEST.tile_bytes, b"\0" * MANIFEST.tile_bytes]


async def test_without_its_manifest_there_is_nothing(store: EmbeddingStore, values: MemoryStore) -> None:
    await store.put(KEY, MANIFEST, TILES)
    await values.delete([f"internvl:{{{KEY}}}:manifest"])
    assert await store.find(KEY) is None


async def test_a_missing_tile_is_a_miss(store: EmbeddingStore, values: MemoryStore) -> None:
    await store.put(KEY, MANIFEST, TILES)
    await values.delete([f"internvl:{{{KEY}}}:1"])
    with pytest.raises(EmbeddingNotFound) as caught:
        await store.read_tiles(KEY, MANIFEST, range(3))
    assert caught.value.keys == [KEY]


async def test_flipped_bits_never_get_out(store: EmbeddingStore, values: MemoryStore) -> None:
    """Every single bit of the header, and many of the payload: discarded, counted, and a miss from then on."""
    generator = random.Random(0)
    bits = [*range(8 * 49), *(generator.randrange(8 * len(TILES[0])) for _ in range(600))]
    for count, bit in enumerate(bits, start=1):
        await store.put(KEY, MANIFEST, TILES)
        damaged = bytearray(TILES[1])
        damaged[bit // 8] ^= 1 << bit % 8
        await values.put({f"internvl:{{{KEY}}}:1": bytes(damaged)}, 60)
        with pytest.raises(EmbeddingNotFound):
            await store.read_tiles(KEY, MANIFEST, range(3))
        assert store.invalid_value_count == count
        assert await store.find(KEY) is None


async def test_a_damaged_manifest_is_a_miss(store: EmbeddingStore, values: MemoryStore) -> None:
    for bit in range(8 * len(MANIFEST.pack())):
        damaged = bytearray(MANIFEST.pack())
        damaged[bit // 8] ^= 1 << bit % 8
        await values.put({f"internvl:{{{KEY}}}:manifest": bytes(damaged)}, 60)
        assert await store.find(KEY) is None


@given(st.binary(max_size=200))
def test_garbage_is_neither_tile_nor_manifest(value: bytes) -> None:
    with pytest.raises(EmbeddingInvalid):
        open_tile(value, MANIFEST)
    with pytest.raises(EmbeddingInvalid):
        Manifest.unpack(value)


def test_a_tile_of_another_shape_is_refused_on_the_way_in() -> None:
    with pytest.raises(ValueError, match="its manifest says 64"):
        frame_tile(b"short", MANIFEST)


async def test_life_slides_with_use(redis_url: str) -> None:
    store = EmbeddingStore(RedisStore(redis_url), embedding_seconds=0.4, media_seconds=0.4)
    await store.put(KEY, MANIFEST, TILES)
    for _ in range(4):
        await asyncio.sleep(0.2)
        assert await store.find(KEY) == MANIFEST
    assert len(await store.read_tiles(KEY, MANIFEST, range(3))) == 3
    await asyncio.sleep(0.6)
    assert await store.find(KEY) is None
    await store.close()


async def put(store: EmbeddingStore, data: bytes) -> str:
    identifier = media_id("tenant", content_digest(data))
    await store.put_media(identifier, content_digest(data), data)
    return identifier


async def test_media_by_id(store: EmbeddingStore) -> None:
    identifier = await put(store, b"a file")
    assert await store.media(identifier) == b"a file"
    assert await put(store, b"a file") == identifier
    assert media_id("tenant", await store.media_digest(identifier)) == identifier
    with pytest.raises(MediaExpired):
        await store.media("media_unknown")
    with pytest.raises(MediaExpired):
        await store.media_digest("media_unknown")


async def test_damaged_media_have_expired(store: EmbeddingStore, values: MemoryStore) -> None:
    identifier = await put(store, b"a file")
    (value,) = await values.get([f"internvl:media:{{{identifier}}}"])
    assert value is not None
    await values.put({f"internvl:media:{{{identifier}}}": value[:-1] + b"X"}, 60)
    with pytest.raises(MediaExpired):
        await store.media(identifier)
    assert store.invalid_value_count == 1


parts = st.lists(st.one_of(st.text(max_size=5), st.binary(max_size=5)), max_size=4)


@given(parts, parts)
def test_keys_of_different_parts_differ(left: list[str | bytes], right: list[str | bytes]) -> None:
    def as_bytes(part: str | bytes) -> bytes:
        return part.encode() if isinstance(part, str) else part

    equal = list(map(as_bytes, left)) == list(map(as_bytes, right))
    assert (content_key(*left) == content_key(*right)) == equal
