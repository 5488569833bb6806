"""Paged attention by PyTorch's scaled_dot_product_attention: runs anywhere.

A step holds single tokens of sequences that decode, and chunks of prompts. Single tokens of similar contexts go through
one call, padded to the longest of them; a chunk has a call of its own. Grouped heads are never repeated for single
tokens: the H/G heads that share keys become the rows of one query.

Legend: T tokens of a step, S sequences of a call, H query heads, G key-value heads, D head dim, L tokens of a context.
"""

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch.nn.functional import scaled_dot_product_attention

from llm_service.model.attention.interface import AttentionKernel, PagedContext

_MOST_PADDING = 1.5
"""Longest context of a call over its shortest, in pages."""


@dataclass(frozen=True)
class _Singles:
    """Sequences with one token in this step and contexts of similar length."""

    rows: torch.Tensor
    """int64 (S,): their tokens."""
    pages: torch.Tensor
    """int64 (S, pages of the longest)."""
    mask: torch.Tensor
    """bool (S, 1, 1, L): what is context and not padding."""
    shortest: int
    """Context tokens of the first; behind them padding may begin."""


@dataclass(frozen=True)
class _Chunk:
    """Several tokens of one sequence, the last of its context."""

    start: int
    end: int
    pages: torch.Tensor
    """int64, of this sequence."""
    context_count: int
    mask: torch.Tensor | None
    """bool (tokens, L); None where the chunk is the whole context."""


@dataclass(frozen=True)
class SdpaLayout:
    """A step as calls."""

    singles: list[_Singles]
    chunks: list[_Chunk]


class SdpaAttention(AttentionKernel[SdpaLayout]):
    """Plain PyTorch; on a GPU, PyTorch's own fused kernels."""

    def lay_out(self, context: PagedContext, page_size: int) -> SdpaLayout:
        starts = list(accumulate(context.query_counts, initial=0))
        tables = context.page_tables.long()
        is_single = [count == 1 for count in context.query_counts]
        singles = sorted(
            (index for index, single in enumerate(is_single) if single), key=lambda index: context.context_counts[index]
        )
        return SdpaLayout(
            [_singles(group, starts, context, tables, page_size) for group in _similar(singles, context, page_size)],
            [
                _chunk(index, starts[index], context, tables, page_size)
                for index, single in enumerate(is_single)
                if not single
            ],
        )

    def attend(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, layout: SdpaLayout, scaling: float
    ) -> torch.Tensor:
        output = torch.empty_like(query)
        for singles in layout.singles:
            output[singles.rows] = _attend_singles(query[singles.rows], keys, values, singles, scaling)
        for chunk in layout.chunks:
            output[chunk.start : chunk.end] = _attend_chunk(
                query[chunk.start : chunk.end], keys, values, chunk, scaling
            )
        return output


def _similar(singles: list[int], context: PagedContext, page_size: int) -> list[list[int]]:
    """Cuts sequences, shortest context first, into groups whose padding is bounded."""
    groups: list[list[int]] = []
    for index in singles:
        pages = -(-context.context_counts[index] // page_size)
        if groups and pages <= _MOST_PADDING * -(-context.context_counts[groups[-1][0]] // page_size):
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _singles(
    group: list[int], starts: list[int], context: PagedContext, tables: torch.Tensor, page_size: int
) -> _Singles:
    device = tables.device
    counts = torch.tensor([context.context_counts[index] for index in group], device=device)
    page_count = -(-context.context_counts[group[-1]] // page_size)
    places = torch.arange(page_count * page_size, device=device)
    return _Singles(
        rows=torch.tensor([starts[index] for index in group], device=device),
        pages=tables[torch.tensor(group, device=device), :page_count],
        mask=(places < counts[:, None])[:, None, None],
        shortest=context.context_counts[group[0]],
    )


def _chunk(index: int, start: int, context: PagedContext, tables: torch.Tensor, page_size: int) -> _Chunk:
    count, context_count = context.query_counts[index], context.context_counts[index]
    mask = None
    if count < context_count:
        mask = torch.ones(count, context_count, dtype=torch.bool, device=tables.device).tril(context_count - count)
    return _Chunk(start, start + count, tables[index, : -(-context_count // page_size)], context_count, mask)


def _attend_singles(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, singles: _Singles, scaling: float
) -> torch.Tensor:
    """query (S, H, D) -> (S, H, D)."""
    count, head_count, head_dim = query.shape
    output = scaled_dot_product_attention(
        query.view(count, keys.shape[2], -1, head_dim),
        _padded(keys, singles).transpose(1, 2),
        _padded(values, singles).transpose(1, 2),
        attn_mask=singles.mask,
        scale=scaling,
    )
    return output.reshape(count, head_count, head_dim)


def _padded(stored: torch.Tensor, singles: _Singles) -> torch.Tensor:
    """(S, L, G, D), zero where padded: what lies there may be anything, and no mask hides a NaN."""
    gathered = _gather(stored, singles.pages)
    is_padding = ~singles.mask[:, 0, 0, singles.shortest :, None, None]
    gathered[:, singles.shortest :].masked_fill_(is_padding, 0)
    return gathered


def _attend_chunk(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, chunk: _Chunk, scaling: float
) -> torch.Tensor:
    """query (tokens, H, D) -> (tokens, H, D)."""
    context_keys, context_values = (
        _gather(stored, chunk.pages[None])[:, : chunk.context_count].transpose(1, 2) for stored in (keys, values)
    )
    output = scaled_dot_product_attention(
        query.transpose(0, 1)[None],
        context_keys,
        context_values,
        attn_mask=chunk.mask,
        is_causal=chunk.mask is None,
        scale=scaling,
        enable_gqa=query.shape[1] != keys.shape[2],
    )
    return output[0].transpose(0, 1)


def _gather(stored: torch.Tensor, pages: torch.Tensor) -> torch.Tensor:
    """Pages (S, p) of (N, P, G, D) -> (S, p * P, G, D)."""
    gathered = stored.index_select(0, pages.flatten())
    return gathered.view(pages.shape[0], -1, *stored.shape[2:])
