"""Whatever happens to stored values, a reader gets the rows that were put under the key, or none."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from internvl.errors import EmbeddingNotFound
from shared.store.embedding_store import EmbeddingStore, Manifest, frame_tile
from shared.store.framing import Codec, Value
from shared.store.value_store import MemoryStore

Result = TypeVar("Result")
KEYS = ["a" * 64, "b" * 64]
MANIFESTS = [Manifest(4, 8, "bfloat16", (3,)), Manifest(4, 8, "bfloat16", (1, 1)), Manifest(2, 8, "float32", (1,))]


def tile_of(key: str, manifest: Manifest, index: int) -> bytes:
    """Rows that tell where they belong."""
    return random.Random(f"{key} {manifest} {index}").randbytes(manifest.tile_bytes)


class StoreMachine(RuleBasedStateMachine):
    """Writers, readers, eviction, bit flips, truncations, and values that turn up under other names."""

    names: "Bundle[str]" = Bundle("names")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.values = MemoryStore(1 << 20)
        self.store = EmbeddingStore(self.values, seconds=3600)
        self.put: dict[str, list[Manifest]] = {key: [] for key in KEYS}
        """What was ever put under a key; with content keys, of one shape."""

    def teardown(self) -> None:
        self.loop.close()

    def do(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(work)

    def present(self) -> list[str]:
        return sorted(self.values._values)

    def value(self, name: str) -> Value:
        (value,) = self.do(self.values.get([name]))
        assert value is not None
        return value

    @rule(key=st.sampled_from(KEYS), manifest=st.sampled_from(MANIFESTS), codec=st.sampled_from(Codec))
    def write(self, key: str, manifest: Manifest, codec: Codec) -> None:
        manifest = (self.put[key] or [manifest])[0]
        tiles = [
            frame_tile(key, index, tile_of(key, manifest, index), manifest, codec=codec)
            for index in range(manifest.tile_count)
        ]
        self.do(self.store.put(key, manifest, tiles))
        self.put[key].append(manifest)

    @rule(choice=st.integers(0), bit=st.integers(0))
    def flip(self, choice: int, bit: int) -> None:
        if names := self.present():
            name = names[choice % len(names)]
            value = bytearray(self.value(name))
            value[bit // 8 % len(value)] ^= 1 << bit % 8
            self.do(self.values.put({name: bytes(value)}, 3600))

    @rule(choice=st.integers(0), length=st.integers(1))
    def truncate(self, choice: int, length: int) -> None:
        if names := self.present():
            name = names[choice % len(names)]
            value = bytes(self.value(name))
            self.do(self.values.put({name: value[: length % len(value)] or b"\0"}, 3600))

    @rule(choice=st.integers(0))
    def evict(self, choice: int) -> None:
        if names := self.present():
            self.do(self.values.delete([names[choice % len(names)]]))

    @rule(left=st.integers(0), right=st.integers(0))
    def exchange(self, left: int, right: int) -> None:
        if names := self.present():
            one, other = names[left % len(names)], names[right % len(names)]
            values = {one: bytes(self.value(other)), other: bytes(self.value(one))}
            self.do(self.values.put(values, 3600))

    @rule()
    def flush(self) -> None:
        self.do(self.values.close())

    @rule(key=st.sampled_from(KEYS))
    def read(self, key: str) -> None:
        manifest = self.do(self.store.find(key))
        if manifest is None:
            return
        assert manifest in self.put[key]
        try:
            read, tiles = self.do(self.store.read(key, range(manifest.tile_count)))
        except EmbeddingNotFound:
            assert self.do(self.store.find(key)) is None, "whoever makes it again must not be told that it is there"
        else:
            assert read == manifest
            assert [bytes(tile) for tile in tiles] == [
                tile_of(key, manifest, index) for index in range(manifest.tile_count)
            ]

    @invariant()
    def memory_is_counted_right(self) -> None:
        assert self.values.held_bytes == sum(len(value) for value, _ in self.values._values.values())


StoreMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestStoreMachine = StoreMachine.TestCase


async def test_ten_thousand_flipped_bits() -> None:
    """One at a time, anywhere in anything that is stored: never a wrong row, and every one of them is noticed."""
    values = MemoryStore(1 << 20)
    store = EmbeddingStore(values, seconds=3600)
    generator = random.Random(0)
    key, manifest = KEYS[0], Manifest(16, 64, "bfloat16", (2,))
    framed = [
        frame_tile(key, index, tile_of(key, manifest, index), manifest, codec=codec)
        for index, codec in enumerate(Codec)
    ]
    for count in range(10_000):
        await store.put(key, manifest, framed)
        name = generator.choice(list(values._values))
        (value,) = await values.get([name])
        assert value is not None
        damaged = bytearray(value)
        damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        await values.put({name: bytes(damaged)}, 3600)
        if await store.find(key) is not None:
            try:
                await store.read(key, range(2))
            except EmbeddingNotFound:
                pass
            else:
                raise AssertionError(f"{name} was damaged and nobody noticed")
        assert store.invalid_value_count == count + 1
        assert await store.find(key) is None
