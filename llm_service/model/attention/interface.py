"""Attention over the paged cache: what every kernel for it takes and gives.

What a token may see is decided by its place in its sequence alone; positions never reach attention. The step's layout
is worked out once and used by all layers.

Legend: T tokens of the step, S sequences in it, H query heads, G key-value heads, D head dim.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from transformers import AttentionInterface

from llm_service.model.cache import PagedCache
from llm_service.model.rotary import Rotation

Layout = TypeVar("Layout")


@dataclass(frozen=True)
class PagedContext:
    """Where each token of a step goes, and what its sequence can see."""

    slots: torch.Tensor
    """int64 (T,): place of each token in the cache, page * page size + place in the page."""
    query_counts: list[int]
    """Tokens of each sequence in this step, T in sum."""
    context_counts: list[int]
    """Tokens each sequence has in the cache after this step: its queries are the last of them."""
    page_tables: torch.Tensor
    """int32 (S, most pages of a sequence): the pages of each in order, then zeros."""


class AttentionKernel(ABC, Generic[Layout]):
    """One way to compute attention over pages."""

    @abstractmethod
    def lay_out(self, context: PagedContext, page_size: int) -> Layout:
        """What the kernel needs of a step, made once for all its layers."""

    @abstractmethod
    def attend(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, layout: Layout, scaling: float
    ) -> torch.Tensor:
        """query (T, H, D), one layer's pages (N, P, G, D) with the step's own keys and values in them -> (T, H, D)."""


@dataclass(frozen=True)
class PagedStep:
    """What all layers of one step share."""

    cache: PagedCache
    context: PagedContext
    rotation: Rotation
    kernel: AttentionKernel[Any]
    layout: Any

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """Stores key and value (T, G, D), already rotated, and attends with query (T, H, D)."""
        self.cache.write(layer, self.context.slots, key, value)
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        return self.kernel.attend(query, keys, values, self.layout, scaling)


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
    """As transformers' layers call it: query (1, H, T, D), key and value (1, G, T, D) -> (1, T, H, D)."""
    assert attention_mask is None, "visibility comes from the paged context"
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    return paged.attend(layer, query, key, value, scaling)[None], None


PAGED_ATTENTION = "internvl_paged"
"""The name it is registered under."""
AttentionInterface.register(PAGED_ATTENTION, paged_attention)
