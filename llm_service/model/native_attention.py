"""Paged attention of a CPU in bfloat16: single tokens by `native.cpp`, chunks of prompts by SDPA.

Legend: T tokens of a step, S single tokens among them, H query heads, D head dim.
"""

from dataclasses import dataclass
from itertools import accumulate

import torch

from llm_service.model.attention import AttentionKernel, PagedContext
from llm_service.model.native import Native
from llm_service.model.sdpa import SdpaAttention, SdpaLayout


@dataclass(frozen=True)
class NativeLayout:
    """A step's single tokens, and its chunks."""

    rows: torch.Tensor
    """int64 (S,): which of the T tokens are single."""
    page_tables: torch.Tensor
    """int32 (S, most pages)."""
    context_counts: torch.Tensor
    """int64 (S,)."""
    chunks: SdpaLayout


class NativeAttention(AttentionKernel[NativeLayout]):
    """Reads pages where they lie; a long context is shared between threads."""

    def __init__(self, native: Native) -> None:
        self._native = native
        self._sdpa = SdpaAttention(widen_chunks=True)

    def lay_out(self, context: PagedContext, page_size: int) -> NativeLayout:
        starts = accumulate(context.query_counts, initial=0)
        singles = [
            (index, start)
            for index, (count, start) in enumerate(zip(context.query_counts, starts, strict=False))
            if count == 1
        ]
        indices = torch.tensor([index for index, _ in singles], dtype=torch.int64)
        return NativeLayout(
            torch.tensor([start for _, start in singles], dtype=torch.int64),
            context.page_tables[indices].contiguous(),
            torch.tensor(context.context_counts, dtype=torch.int64)[indices],
            self._sdpa.lay_out_chunks(context, page_size),
        )

    def attend(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, layout: NativeLayout, scaling: float
    ) -> torch.Tensor:
        if not layout.chunks.chunks:
            return self._attend_singles(query, keys, values, layout, scaling)
        output = self._sdpa.attend(query, keys, values, layout.chunks, scaling)
        if len(layout.rows):
            output[layout.rows] = self._attend_singles(query[layout.rows], keys, values, layout, scaling)
        return output

    def _attend_singles(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, layout: NativeLayout, scaling: float
    ) -> torch.Tensor:
        """query (S, H, D) -> (S, H, D)."""
        return self._native.attend(query, keys, values, layout.page_tables, layout.context_counts, scaling)
