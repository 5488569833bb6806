"""Pages are neither lost nor shared by accident, whatever the order of events."""

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from llm_service.engine.pytorch.pages import PageAllocator

PAGE_COUNT = 7
names = st.integers(0, 5)


class PageMachine(RuleBasedStateMachine):
    """Holders take pages, name them by content, find them again, and let go. A dictionary is the model."""

    def __init__(self) -> None:
        super().__init__()
        self.allocator = PageAllocator(PAGE_COUNT, 4)
        self.holders: list[list[int]] = []
        self.content: dict[int, int] = {}
        """What the holder of a page wrote into it; gone when the page is handed out again."""

    @rule()
    def take(self) -> None:
        held = {page for holder in self.holders for page in holder}
        page = self.allocator.take()
        assert (page is None) == (len(held) == PAGE_COUNT)
        if page is not None:
            assert page not in held
            self.content.pop(page, None)
            self.holders.append([page])

    @rule(data=st.data(), name=names)
    def fill(self, data: st.DataObject, name: int) -> None:
        unnamed = [holder for holder in self.holders if holder[-1] not in self.content]
        if unnamed:
            page = data.draw(st.sampled_from(unnamed))[-1]
            self.content[page] = name
            self.allocator.name(page, bytes([name]))

    @rule(name=names)
    def find(self, name: int) -> None:
        pages = self.allocator.take_over([bytes([name])])
        for page in pages:
            assert self.content[page] == name
        if pages:
            self.holders.append(pages)

    @rule(data=st.data())
    def let_go(self, data: st.DataObject) -> None:
        if self.holders:
            holder = self.holders.pop(data.draw(st.integers(0, len(self.holders) - 1)))
            self.allocator.release(holder)
            page = holder[0]
            if page not in self.content and not any(page in other for other in self.holders):
                self.content.pop(page, None)

    @invariant()
    def nothing_is_lost(self) -> None:
        self.allocator.check()
        assert self.allocator.held_count == len({page for holder in self.holders for page in holder})


TestPages = PageMachine.TestCase


def test_a_prefix_is_found_and_its_end_is_evicted_first() -> None:
    allocator = PageAllocator(3, 4)
    pages = [allocator.take() for _ in range(3)]
    held = [page for page in pages if page is not None]
    for page, name in zip(held, [b"a", b"ab", b"abc"], strict=True):
        allocator.name(page, name)
    allocator.release(held)
    assert allocator.take() == held[2]
    assert allocator.take_over([b"a", b"ab", b"abc"]) == held[:2]


def test_releasing_what_is_not_held_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        PageAllocator(1, 4).release([0])
