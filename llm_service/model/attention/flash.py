"""Paged attention by the flash-attn package, on NVIDIA GPUs: one kernel call a layer, over the pages as they lie.

Its variable-length kernel takes sequences of any length end to end, aligns a chunk's queries with the end of its
context and reads keys through a page table. Wants 16-bit tensors and pages of a multiple of 256 tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

import torch

from llm_service.model.attention.interface import AttentionKernel, PagedContext

PAGE_MULTIPLE = 256
"""Tokens: flash-attn 2 walks pages in blocks of so many."""
_CAPABILITY = (8, 0)
"""Ampere, the oldest it runs on; elsewhere its kernel raises at the first call."""


class FlashUnsupported(ValueError):
    """flash-attn cannot run with this device, dtype or page size, or is not installed."""


@dataclass(frozen=True)
class FlashLayout:
    """Borders of sequences as the kernel takes them."""

    query_borders: torch.Tensor
    """int32 (S + 1,)."""
    context_borders: torch.Tensor
    """int32 (S + 1,)."""
    most_queries: int
    longest_context: int
    page_tables: torch.Tensor
    """int32 (S, pages)."""


class FlashAttention(AttentionKernel[FlashLayout]):
    """`varlen_attention` is flash_attn.flash_attn_varlen_func, or anything that keeps its contract."""

    def __init__(self, varlen_attention: Callable[..., torch.Tensor]) -> None:
        self._varlen_attention = varlen_attention

    @classmethod
    def load(cls, device: torch.device, dtype: torch.dtype, page_size: int) -> "FlashAttention":
        """Raises FlashUnsupported with the reason."""
        if device.type != "cuda":
            raise FlashUnsupported(f"flash-attn runs on CUDA devices, not on {device.type}")
        if dtype not in (torch.bfloat16, torch.float16):
            raise FlashUnsupported(f"flash-attn computes in bfloat16 or float16, not in {dtype}")
        if page_size % PAGE_MULTIPLE:
            raise FlashUnsupported(f"flash-attn wants pages of a multiple of {PAGE_MULTIPLE} tokens, not {page_size}")
        try:
            from flash_attn import flash_attn_varlen_func  # in the extra [gpu], built against the GPU's torch
        except ImportError as error:
            raise FlashUnsupported(f"flash-attn cannot be imported: {error}") from error
        if (capability := torch.cuda.get_device_capability(device)) < _CAPABILITY:
            raise FlashUnsupported(f"flash-attn wants compute capability {_CAPABILITY}, this GPU has {capability}")
        return cls(flash_attn_varlen_func)

    def lay_out(self, context: PagedContext, page_size: int) -> FlashLayout:
        return FlashLayout(
            query_borders=_borders(context.query_counts, context.page_tables.device),
            context_borders=_borders(context.context_counts, context.page_tables.device),
            most_queries=max(context.query_counts),
            longest_context=max(context.context_counts),
            page_tables=context.page_tables,
        )

    def attend(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, layout: FlashLayout, scaling: float
    ) -> torch.Tensor:
        return self._varlen_attention(
            query,
            keys,
            values,
            cu_seqlens_q=layout.query_borders,
            cu_seqlens_k=layout.context_borders,
            max_seqlen_q=layout.most_queries,
            max_seqlen_k=layout.longest_context,
            softmax_scale=scaling,
            causal=True,
            block_table=layout.page_tables,
        )


def _borders(counts: list[int], device: torch.device) -> torch.Tensor:
    return torch.tensor(list(accumulate(counts, initial=0)), dtype=torch.int32, device=device)
