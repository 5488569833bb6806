"""Whole entries within a bound, for a while."""

import time

from hypothesis import given
from hypothesis import strategies as st

from shared.store.embedding_store import Manifest
from vision_service.copies.memory_copies import HeldEmbedding, HeldFile, MemoryCopies


def embedding(tile_bytes: int) -> HeldEmbedding:
    return HeldEmbedding(Manifest(1, 1, "float32", (2,)), [b"a" * tile_bytes, b"b" * tile_bytes])


def copies(max_bytes: int = 100) -> MemoryCopies:
    return MemoryCopies(max_bytes, embedding_seconds=60, media_seconds=60)


def test_what_is_held_is_the_object_itself() -> None:
    memory, held, file = copies(), embedding(10), HeldFile(b"", b"data")
    memory.hold("key", held)
    memory.hold("id", file)
    assert memory.embedding("key") is held
    assert memory.file("id") is file
    assert memory.file("key") is None
    assert memory.embedding("id") is None


def test_what_was_used_last_stays_and_whatever_goes_goes_whole() -> None:
    memory = copies()
    memory.hold("a", embedding(20))
    memory.hold("b", embedding(20))
    assert memory.embedding("a") is not None
    memory.hold("c", embedding(20))
    assert memory.embedding("b") is None
    assert memory.embedding("a") is not None
    assert memory.held_bytes == 80


def test_what_is_too_large_pushes_nothing_out() -> None:
    memory = copies()
    memory.hold("a", embedding(20))
    memory.hold("huge", embedding(51))
    assert memory.embedding("huge") is None
    assert memory.embedding("a") is not None


def test_lives_end_unless_used() -> None:
    memory = MemoryCopies(100, embedding_seconds=0.05, media_seconds=60)
    memory.hold("a", embedding(1))
    memory.hold("f", HeldFile(b"", b"1"))
    time.sleep(0.06)
    assert memory.embedding("a") is None
    assert memory.file("f") is not None
    assert memory.held_bytes == 1


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 60), st.booleans())))
def test_bytes_are_counted_right(steps: list[tuple[str, int, bool]]) -> None:
    memory = copies()
    for name, size, is_file in steps:
        memory.hold(name, HeldFile(b"", bytes(size)) if is_file else embedding(size))
        entries = [memory.embedding(name) or memory.file(name) for name in "abcdef"]
        assert memory.held_bytes == sum(entry.size_bytes for entry in entries if entry is not None) <= 100
    memory.clear()
    assert memory.held_bytes == 0
