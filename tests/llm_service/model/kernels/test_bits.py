"""A row's bits depend on nothing but the row, whatever the kernels were compiled for.

Rows are compared alone, in a batch and in chunks of any size, and between builds: 2,000 and more of each kernel. Where
a compiler chose what to fuse, 243 of the rows of attention below differed.
"""

import random
from itertools import pairwise

import pytest
import torch

from llm_service.model.kernels.build import Build
from llm_service.model.kernels.native import Native
from tests.support.kernels import BUILDS, FUSED, load_all, name_of, one_thread, pages_of, randn

ROWS = 2048
QUERIES = [(128, 128), (40, 300), (200, 900), (1, 513), (155, 155), (2, 129)]
"""(queries, context) of each sequence: prompts, chunks, decoding; of every place in a split of 128 tokens."""
ATTENTION_SIZES = [(64, 1), (72, 1), (128, 1), (64, 2), (128, 7)]
"""(head dim, query heads of a key). One head alone runs instances of templates that no batch does."""


@pytest.fixture(scope="module")
def natives() -> dict[Build, Native]:
    return load_all()


@pytest.fixture(scope="module", params=BUILDS, ids=name_of)
def native(request: pytest.FixtureRequest, natives: dict[Build, Native]) -> Native:
    return natives[request.param]


def chunks_of(count: int) -> list[slice]:
    """In order, of 1 to 40 rows."""
    chooser, starts = random.Random(count), [0]
    while starts[-1] < count:
        starts.append(min(count, starts[-1] + chooser.randint(1, 40)))
    return [slice(start, end) for start, end in pairwise(starts)]


class Linear:
    """With everything that a map does after its sum; then less its rounded result, so that low bits of sums show."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.x, self.weight, self.bias = randn(ROWS, 96), randn(70, 96), randn(70)
        self.factor, self.term = randn(ROWS, 70), randn(ROWS, 70)

    def rows(self, native: Native, rows: slice) -> torch.Tensor:
        packed, bias, factor, term = native.pack(self.weight), self.bias, self.factor[rows], self.term[rows]
        result = native.linear(packed, self.x[rows], 70, bias=bias, silu=True, factor=factor, term=term)
        activated = native.linear(packed, self.x[rows], 70, silu=True)
        rest = native.linear(packed, self.x[rows], 70, silu=True, term=-activated)
        return torch.cat([result, activated, rest], 1)


class Norm:
    """Of a width that is no multiple of a vector."""

    def __init__(self) -> None:
        torch.manual_seed(2)
        self.x, self.weight = randn(ROWS, 100), randn(100)

    def rows(self, native: Native, rows: slice) -> torch.Tensor:
        return native.rms_norm(self.x[rows], self.weight, 1e-6)


class Attention:
    """526 queries. Values nearly cancel, so that results have the low bits of sums."""

    def __init__(self, head_dim: int, heads: int) -> None:
        torch.manual_seed(head_dim)
        self.counts, self.contexts = [list(numbers) for numbers in zip(*QUERIES, strict=True)]
        self.tables, (self.keys, self.values) = pages_of(self.contexts, 1, head_dim)
        self.keys[:, 1::2] = self.keys[:, ::2]
        self.values[:, 1::2] = -self.values[:, ::2] * (1 + 2**-7)
        self.query = randn(sum(self.counts), heads, head_dim) * 3
        self.scaling = head_dim**-0.5

    def together(self, native: Native) -> torch.Tensor:
        return self._attend(native, self.query, self.tables, self.counts, self.contexts)

    def chunks(self, native: Native, sizes: list[list[slice]]) -> torch.Tensor:
        """Each sequence's queries in chunks, each chunk as a step of its own."""
        results, start = [], 0
        for index, (count, context) in enumerate(QUERIES):
            for chunk in sizes[index]:
                query = self.query[start + chunk.start : start + chunk.stop]
                seen = context - count + chunk.stop
                results.append(self._attend(native, query, self.tables[[index]], [len(query)], [seen]))
            start += count
        return torch.cat(results)

    def _attend(
        self, native: Native, query: torch.Tensor, tables: torch.Tensor, counts: list[int], contexts: list[int]
    ) -> torch.Tensor:
        sizes = torch.tensor(counts), torch.tensor(contexts)
        return native.attend(query, self.keys, self.values, tables, *sizes, self.scaling)


@pytest.mark.parametrize("kind", [Linear, Norm])
def test_rows_alone_in_a_batch_and_in_chunks(native: Native, kind: type[Linear | Norm]) -> None:
    work = kind()
    together = work.rows(native, slice(0, ROWS))
    with one_thread():
        alone = torch.cat([work.rows(native, slice(row, row + 1)) for row in range(ROWS)])
        chunks = torch.cat([work.rows(native, chunk) for chunk in chunks_of(ROWS)])
    assert differing(alone, together) == differing(chunks, together) == 0


@pytest.mark.parametrize(("head_dim", "heads"), ATTENTION_SIZES)
def test_attention_alone_in_a_batch_and_in_chunks(native: Native, head_dim: int, heads: int) -> None:
    work = Attention(head_dim, heads)
    together = work.together(native)
    with one_thread():
        alone = work.chunks(native, [[slice(row, row + 1) for row in range(count)] for count, _ in QUERIES])
        chunks = work.chunks(native, [chunks_of(count) for count, _ in QUERIES])
    assert differing(alone, together) == differing(chunks, together) == 0


@pytest.mark.skipif(len(FUSED) == 1, reason="one build alone runs here that fuses products")
def test_builds_that_fuse_products_agree(natives: dict[Build, Native]) -> None:
    """So replicas on processors with AVX2 and with AVX-512 resume each other's replies bit for bit."""
    works = [*(kind() for kind in (Linear, Norm)), *(Attention(*size) for size in ATTENTION_SIZES)]
    for work in works:
        first, *others = (everything(work, natives[build]) for build in FUSED)
        assert [differing(other, first) for other in others] == [0] * len(others)


def everything(work: Linear | Norm | Attention, native: Native) -> torch.Tensor:
    return work.together(native) if isinstance(work, Attention) else work.rows(native, slice(0, ROWS))


def differing(rows: torch.Tensor, others: torch.Tensor) -> int:
    """How many rows are not the same bits; all of them are finite."""
    assert rows.isfinite().all()
    return int((rows.view(torch.int16) != others.view(torch.int16)).flatten(1).any(1).sum())
