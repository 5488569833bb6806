"""Attention over a paged key-value cache, registered with transformers under the name `internvl_paged`.

The decoder's layers call `paged_attention` as they would any attention function; the step's layout reaches it as the
keyword `paged`. Positions never do: what a token may see is decided by its place in the sequence alone.

Legend: T tokens of the step, H query heads, G key-value heads, D head dim, L tokens of a context, N slots of the cache.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

PAGED_ATTENTION = "internvl_paged"


@dataclass(frozen=True)
class PagedContext:
    """Where each token of a step goes, and what its sequence can see."""

    slots: torch.Tensor
    """int64 (T,): place of each token in the cache."""
    query_starts: list[int]
    """S + 1 borders of the sequences in the step's tokens."""
    context_counts: list[int]
    """Tokens each sequence has in the cache after this step: its queries are the last of them."""
    page_tables: list[torch.Tensor]
    """int64, per sequence its pages in order."""


class PagedCache:
    """Keys and values of all layers: two tensors (N, G, D) a layer."""

    def __init__(
        self,
        *,
        layer_count: int,
        page_count: int,
        page_size: int,
        head_count: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.page_size = page_size
        shape = (page_count * page_size, head_count, head_dim)
        # Not zeroed: no slot is read before it is written, and untouched memory costs nothing on a CPU.
        self._keys = [torch.empty(shape, dtype=dtype, device=device) for _ in range(layer_count)]
        self._values = [torch.empty(shape, dtype=dtype, device=device) for _ in range(layer_count)]

    def write(self, layer: int, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Stores keys and values (T, G, D) at their slots."""
        self._keys[layer].index_copy_(0, slots, keys)
        self._values[layer].index_copy_(0, slots, values)

    def read(self, layer: int, page_table: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The first `count` keys and values of a sequence, (L, G, D) each."""
        return self._gather(self._keys[layer], page_table, count), self._gather(self._values[layer], page_table, count)

    def _gather(self, stored: torch.Tensor, page_table: torch.Tensor, count: int) -> torch.Tensor:
        paged = stored.view(-1, self.page_size, *stored.shape[1:])
        return paged.index_select(0, page_table).flatten(0, 1)[:count]


@dataclass(frozen=True)
class PagedStep:
    """What the registered function needs besides q, k and v."""

    cache: PagedCache
    context: PagedContext


def paged_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    paged: PagedStep,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Writes the step's keys and values, then attends, one sequence at a time, with PyTorch's SDPA.

    query (1, H, T, D), key and value (1, G, T, D), already rotated; returns (1, T, H, D).
    """
    assert attention_mask is None, "visibility comes from the paged context"
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    cache, context = paged.cache, paged.context
    cache.write(layer, context.slots, key[0].transpose(0, 1), value[0].transpose(0, 1))
    outputs = []
    for index, (start, end) in enumerate(pairwise(context.query_starts)):
        count = context.context_counts[index]
        keys, values = cache.read(layer, context.page_tables[index], count)
        outputs.append(_attend(query[:, :, start:end], keys, values, scaling))
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _attend(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float) -> torch.Tensor:
    """Queries (1, H, Q, D) are the last Q of the L tokens whose keys and values (L, G, D) these are."""
    query_count, context_count = query.shape[2], keys.shape[0]
    mask = None
    if 1 < query_count < context_count:
        mask = torch.ones(query_count, context_count, dtype=torch.bool, device=query.device)
        mask = mask.tril(context_count - query_count)
    return scaled_dot_product_attention(
        query,
        keys.transpose(0, 1)[None],
        values.transpose(0, 1)[None],
        attn_mask=mask,
        is_causal=query_count == context_count and query_count > 1,
        scale=scaling,
        enable_gqa=query.shape[1] != keys.shape[1],
    )


AttentionInterface.register(PAGED_ATTENTION, paged_attention)
