"""Paged attention by PyTorch's scaled_dot_product_attention: runs anywhere.

A step holds two cases, and each becomes calls of its own:

    singles   one token of a sequence that decodes. Those of similar contexts share a call, padded to the longest of
              them. Grouped heads are never repeated: the H/G heads that share keys become the rows of one query.
    chunk     several tokens of a prompt, the last of its context. The first chunk sees itself alone, causally; a later
              one also all before it, which takes a mask.

Legend: T tokens of a step, S sequences of a call, H query heads, G key-value heads, D head dim, L tokens of a context.
"""

from collections.abc import Sequence

import torch
from torch.nn.functional import scaled_dot_product_attention

from llm_service.model.attention.interface import Attend, AttentionKernel
from llm_service.model.step import StepInput

_MAX_PADDING = 1.5
"""Longest context of a call over its shortest, in pages."""


class SdpaAttention(AttentionKernel):
    """Plain PyTorch; on a GPU, PyTorch's own fused kernels."""

    name = "sdpa"

    def begin(self, step: StepInput, page_size: int) -> Attend:
        tables = step.page_tables.long()
        starts = (step.query_lens.cumsum(0) - step.query_lens).tolist()
        counts, contexts = step.query_lens.tolist(), step.seq_lens.tolist()
        calls: list[tuple[torch.Tensor | slice, Attend]] = []
        for group in similar({index: contexts[index] for index, count in enumerate(counts) if count == 1}, page_size):
            rows = torch.tensor([starts[index] for index in group], device=tables.device)
            own = [contexts[index] for index in group]
            calls.append((rows, _singles(tables[group], own, page_size)))
        for index, count in enumerate(counts):
            if count > 1:
                pages = tables[index, : -(-contexts[index] // page_size)]
                calls.append((slice(starts[index], starts[index] + count), _chunk(pages, count, contexts[index])))

        def attend(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float) -> torch.Tensor:
            output = torch.empty_like(query)
            for rows, call in calls:
                output[rows] = call(query[rows], keys, values, scaling)
            return output

        return attend


def similar(contexts: dict[int, int], page_size: int) -> list[list[int]]:
    """Sequences, given with their tokens, in groups of bounded padding; shortest context first."""
    groups: list[list[int]] = []
    for index in sorted(contexts, key=contexts.__getitem__):
        pages = -(-contexts[index] // page_size)
        if groups and pages <= _MAX_PADDING * -(-contexts[groups[-1][0]] // page_size):
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _singles(tables: torch.Tensor, contexts: Sequence[int], page_size: int) -> Attend:
    """Sequences with one token in this step: page tables (S, any width) and contexts, shortest first."""
    shortest, page_count = contexts[0], -(-contexts[-1] // page_size)
    pages, device = tables[:, :page_count], tables.device
    is_context = torch.arange(page_count * page_size, device=device) < torch.tensor(contexts, device=device)[:, None]
    is_padding = ~is_context[:, shortest:, None, None]

    def padded(stored: torch.Tensor) -> torch.Tensor:
        """(S, G, L, D), zero where padded: what lies there may be anything, and no mask hides a NaN."""
        gathered = _gather(stored, pages)
        gathered[:, shortest:].masked_fill_(is_padding, 0)
        return gathered.transpose(1, 2)

    def attend(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float) -> torch.Tensor:
        grouped = query.view(len(query), keys.shape[2], -1, query.shape[2])
        mask = is_context[:, None, None]
        output = scaled_dot_product_attention(grouped, padded(keys), padded(values), attn_mask=mask, scale=scaling)
        return output.reshape(query.shape)

    return attend


def _chunk(pages: torch.Tensor, count: int, context: int) -> Attend:
    """The last `count` tokens of one context, whose pages these are."""
    mask = None
    if count < context:
        mask = torch.ones(count, context, dtype=torch.bool, device=pages.device).tril(context - count)

    def attend(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float) -> torch.Tensor:
        keys, values = (_gather(stored, pages[None])[:, :context].transpose(1, 2) for stored in (keys, values))
        output = scaled_dot_product_attention(
            query.transpose(0, 1)[None],
            keys,
            values,
            attn_mask=mask,
            is_causal=mask is None,
            scale=scaling,
            enable_gqa=query.shape[1] != keys.shape[1],
        )
        return output[0].transpose(0, 1)

    return attend


def _gather(stored: torch.Tensor, pages: torch.Tensor) -> torch.Tensor:
    """Pages (S, p) of (N, P, G, D) -> (S, p * P, G, D)."""
    gathered = stored.index_select(0, pages.flatten())
    return gathered.view(pages.shape[0], -1, *stored.shape[2:])
