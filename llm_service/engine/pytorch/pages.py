"""Pages of the KV cache: who holds each, and its content. Pure bookkeeping: no tensors.

A page holds the keys and values of `page_size` tokens. A full page is named by a hash over everything that determines
its content: tenant, all tokens before it, its own tokens, and for visual tokens their key, row and increment. A prompt
that begins like an earlier one takes over its full pages.

    held     referenced by one request or more
    cached   no longer referenced, but named: taken over by a prompt, or evicted, least recently used first
    free     neither

Invariant: held + cached + free = all pages (`check`).
"""

from collections import OrderedDict
from collections.abc import Sequence

PageHash = bytes


class PageAllocator:
    """Reference-counted pages with reuse by content."""

    def __init__(self, page_count: int, page_size: int) -> None:
        """`page_size`: tokens that each holds."""
        self.page_count, self.page_size = page_count, page_size
        self._free = list(reversed(range(page_count)))
        self._references = [0] * page_count
        self._hash_of: dict[int, PageHash] = {}
        self._page_of: dict[PageHash, int] = {}
        self._cached: OrderedDict[int, None] = OrderedDict()

    @property
    def available_count(self) -> int:
        """Pages that `take` can hand out: free ones and cached ones."""
        return len(self._free) + len(self._cached)

    @property
    def held_count(self) -> int:
        return self.page_count - self.available_count

    def take(self) -> int | None:
        """An empty page, held once; None when every page is held."""
        if self._free:
            page = self._free.pop()
        elif self._cached:
            page, _ = self._cached.popitem(last=False)
            del self._page_of[self._hash_of.pop(page)]
        else:
            return None
        self._references[page] = 1
        return page

    def take_over(self, hashes: Sequence[PageHash]) -> list[int]:
        """Holds the pages of the longest known prefix of `hashes`, in order."""
        pages = []
        for page_hash in hashes:
            page = self._page_of.get(page_hash)
            if page is None:
                break
            self._cached.pop(page, None)
            self._references[page] += 1
            pages.append(page)
        return pages

    def name(self, page: int, page_hash: PageHash) -> None:
        """Makes a full, held page findable. The first page of equal content keeps the name."""
        assert self._references[page] > 0
        if page_hash not in self._page_of and page not in self._hash_of:
            self._page_of[page_hash] = page
            self._hash_of[page] = page_hash

    def release(self, pages: Sequence[int]) -> None:
        """Gives up one hold on each. The last pages of a prefix are evicted before its first ones."""
        for page in reversed(pages):
            assert self._references[page] > 0
            self._references[page] -= 1
            if self._references[page] > 0:
                continue
            if page in self._hash_of:
                self._cached[page] = None
            else:
                self._free.append(page)

    def check(self) -> None:
        """Raises AssertionError unless every page is in exactly one state."""
        held = {page for page, count in enumerate(self._references) if count > 0}
        assert held.isdisjoint(self._cached) and held.isdisjoint(self._free)
        assert len(held) + len(self._cached) + len(self._free) == self.page_count
        assert len(set(self._free)) == len(self._free)
        assert {self._page_of[page_hash] for page_hash in self._page_of} == set(self._hash_of)
        assert set(self._cached) <= set(self._hash_of)
