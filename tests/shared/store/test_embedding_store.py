"""An embedding is there whole and right, or it is not there."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from internvl.errors import EmbeddingInvalid, EmbeddingNotFound
from shared.content import content_key
from shared.store.embedding_store import EmbeddingStore, Manifest, frame_tile, open_tile
from shared.store.framing import HEADER_BYTES, Codec
from shared.store.redis_store import RedisStore
from shared.store.value_store import MemoryStore

MANIFEST = Manifest(4, 8, "bfloat16", (2, 1))
KEY = "ab" * 32
TILES = [frame_tile(KEY, index, bytes([index]) * MANIFEST.tile_bytes, MANIFEST) for index in range(3)]


@pytest.fixture
def values() -> MemoryStore:
    return MemoryStore(1 << 20)


@pytest.fixture
def store(values: MemoryStore) -> EmbeddingStore:
    return EmbeddingStore(values, seconds=60)


async def test_round_trip(store: EmbeddingStore) -> None:
    await store.put(KEY, MANIFEST, TILES)
    assert await store.find(KEY) == MANIFEST
    manifest, tiles = await store.read(KEY, [2, 0])
    assert manifest == MANIFEST
    assert [bytes(tile) for tile in tiles] == [b"\2" * MANIFEST.tile_bytes, b"\0" * MANIFEST.tile_bytes]


async def test_without_its_manifest_there_is_nothing(store: EmbeddingStore, values: MemoryStore) -> None:
    await store.put(KEY, MANIFEST, TILES)
    await values.delete([f"internvl:{{{KEY}}}:manifest"])
    assert await store.find(KEY) is None


async def test_a_missing_tile_is_a_miss(store: EmbeddingStore, values: MemoryStore) -> None:
    await store.put(KEY, MANIFEST, TILES)
    await values.delete([f"internvl:{{{KEY}}}:1"])
    with pytest.raises(EmbeddingNotFound) as caught:
        await store.read(KEY, range(3))
    assert caught.value.keys == [KEY]
    assert await store.find(KEY) is None, "whoever is to encode it again would be told that it is there"
    await store.put(KEY, MANIFEST, TILES)
    assert await store.find(KEY) == MANIFEST


async def test_values_that_changed_places_never_get_out(store: EmbeddingStore, values: MemoryStore) -> None:
    """Whole and undamaged, of the right shape, and still not what was asked for."""
    await store.put(KEY, MANIFEST, TILES)
    await values.put({f"internvl:{{{KEY}}}:0": TILES[1]}, 60)
    with pytest.raises(EmbeddingNotFound):
        await store.read(KEY, range(3))
    other = "cd" * 32
    await store.put(KEY, MANIFEST, TILES)
    await store.put(other, MANIFEST, TILES)  # framed for KEY
    with pytest.raises(EmbeddingNotFound):
        await store.read(other, range(3))
    assert len((await store.read(KEY, range(3)))[1]) == 3


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
async def test_compressed_tiles_are_the_same_and_checked_the_same(
    store: EmbeddingStore, values: MemoryStore, dtype: str
) -> None:
    manifest = Manifest(16, 64, dtype, (1,))
    rows = random.Random(0).randbytes(manifest.tile_bytes)
    tile = frame_tile(KEY, 0, rows, manifest, codec=Codec.PLANES)
    await store.put(KEY, manifest, [tile])
    assert [bytes(tile) for tile in (await store.read(KEY, [0]))[1]] == [rows]
    for bit in random.Random(0).sample(range(8 * len(tile)), 300):
        damaged = bytearray(tile)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(EmbeddingInvalid):
            open_tile(KEY, 0, bytes(damaged), manifest)


async def test_flipped_bits_never_get_out(store: EmbeddingStore, values: MemoryStore) -> None:
    """Every single bit of the header, and many of the payload: discarded, counted, and a miss from then on."""
    generator = random.Random(0)
    bits = [*range(8 * HEADER_BYTES), *(generator.randrange(8 * len(TILES[0])) for _ in range(600))]
    for count, bit in enumerate(bits, start=1):
        await store.put(KEY, MANIFEST, TILES)
        damaged = bytearray(TILES[1])
        damaged[bit // 8] ^= 1 << bit % 8
        await values.put({f"internvl:{{{KEY}}}:1": bytes(damaged)}, 60)
        with pytest.raises(EmbeddingNotFound):
            await store.read(KEY, range(3))
        assert store.invalid_value_count == count
        assert await store.find(KEY) is None


async def test_a_damaged_manifest_is_a_miss(store: EmbeddingStore, values: MemoryStore) -> None:
    for bit in range(8 * len(MANIFEST.pack(KEY))):
        damaged = bytearray(MANIFEST.pack(KEY))
        damaged[bit // 8] ^= 1 << bit % 8
        await values.put({f"internvl:{{{KEY}}}:manifest": bytes(damaged)}, 60)
        assert await store.find(KEY) is None


@given(st.binary(max_size=200))
def test_garbage_is_neither_tile_nor_manifest(value: bytes) -> None:
    with pytest.raises(EmbeddingInvalid):
        open_tile(KEY, 0, value, MANIFEST)
    with pytest.raises(EmbeddingInvalid):
        Manifest.unpack(KEY, value)


def test_a_tile_of_another_shape_is_refused_on_the_way_in() -> None:
    with pytest.raises(ValueError, match="its manifest says 64"):
        frame_tile(KEY, 0, b"short", MANIFEST)


async def test_life_slides_with_use(redis_url: str) -> None:
    store = EmbeddingStore(RedisStore(redis_url), seconds=0.4)
    await store.put(KEY, MANIFEST, TILES)
    for _ in range(4):
        await asyncio.sleep(0.2)
        assert await store.find(KEY) == MANIFEST
    assert len((await store.read(KEY, range(3)))[1]) == 3
    await asyncio.sleep(0.6)
    assert await store.find(KEY) is None
    await store.close()


parts = st.lists(st.one_of(st.text(max_size=5), st.binary(max_size=5)), max_size=4)


@given(parts, parts)
def test_keys_of_different_parts_differ(left: list[str | bytes], right: list[str | bytes]) -> None:
    def as_bytes(part: str | bytes) -> bytes:
        return part.encode() if isinstance(part, str) else part

    equal = list(map(as_bytes, left)) == list(map(as_bytes, right))
    assert (content_key(*left) == content_key(*right)) == equal
