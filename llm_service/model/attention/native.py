"""Paged attention of a CPU in bfloat16, by `native.cpp`: a row is the same to the bit in whatever step it comes."""

from dataclasses import dataclass

import torch

from llm_service.model.attention.interface import AttentionKernel, PagedContext
from llm_service.model.kernels.native import Native


@dataclass(frozen=True)
class NativeLayout:
    """S sequences."""

    page_tables: torch.Tensor
    """int32 (S, most pages)."""
    query_counts: torch.Tensor
    """int64 (S,)."""
    context_counts: torch.Tensor
    """int64 (S,)."""


class NativeAttention(AttentionKernel[NativeLayout]):
    """Reads pages where they lie, and no key that a query does not see; threads share long contexts."""

    def __init__(self, native: Native) -> None:
        self._native = native

    def lay_out(self, context: PagedContext, page_size: int) -> NativeLayout:
        return NativeLayout(
            context.page_tables.contiguous(),
            torch.tensor(context.query_counts, dtype=torch.int64),
            torch.tensor(context.context_counts, dtype=torch.int64),
        )

    def attend(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, layout: NativeLayout, scaling: float
    ) -> torch.Tensor:
        return self._native.attend(
            query, keys, values, layout.page_tables, layout.query_counts, layout.context_counts, scaling
        )
