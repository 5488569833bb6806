"""A kept file comes back whole and right, or it has expired."""

import random

import pytest

from internvl.errors import MediaExpired
from shared.content import content_digest, is_media_id, media_id
from shared.store.media_store import CHUNK_BYTES, MediaStore
from shared.store.value_store import MemoryStore

LONG = random.Random(0).randbytes(CHUNK_BYTES + 5)


@pytest.fixture
def values() -> MemoryStore:
    return MemoryStore(1 << 26)


@pytest.fixture
def store(values: MemoryStore) -> MediaStore:
    return MediaStore(values, seconds=60)


async def put(store: MediaStore, data: bytes) -> str:
    identifier = media_id("tenant", content_digest(data))
    await store.put(identifier, content_digest(data), data)
    return identifier


@pytest.mark.parametrize("data", [b"x", b"a file", LONG[:CHUNK_BYTES], LONG], ids=["1", "6", "chunk", "chunk+5"])
async def test_by_id(store: MediaStore, data: bytes) -> None:
    identifier = await put(store, data)
    assert is_media_id(identifier)
    assert await store.read(identifier) == data
    assert await put(store, data) == identifier
    kept = await store.find(identifier)
    assert (kept.digest, kept.size_bytes) == (content_digest(data), len(data))


async def test_unknown(store: MediaStore) -> None:
    assert not is_media_id("media_unknown")
    assert not await store.touch("media_unknown")
    for ask in (store.find, store.read):
        with pytest.raises(MediaExpired) as caught:
            await ask("media_unknown")
        assert caught.value.metadata["media_id"] == "media_unknown"


async def test_any_damage_is_expiry(store: MediaStore, values: MemoryStore) -> None:
    for part in ("file", "0", "1"):
        identifier = await put(store, LONG)
        name = f"internvl:media:{{{identifier}}}:{part}"
        (value,) = await values.get([name])
        assert value is not None
        await values.put({name: bytes(value[:-1]) + bytes([value[-1] ^ 1])}, 60)
        with pytest.raises(MediaExpired):
            await store.read(identifier)
    assert store.invalid_value_count == 3


async def test_a_file_that_lost_a_part_is_kept_again(store: MediaStore, values: MemoryStore) -> None:
    identifier = await put(store, LONG)
    await values.delete([f"internvl:media:{{{identifier}}}:1"])
    with pytest.raises(MediaExpired):
        await store.read(identifier)
    assert await put(store, LONG) == identifier
    assert await store.read(identifier) == LONG
