"""Paged attention by the flash-attn package, on NVIDIA GPUs: one kernel call a layer, over the pages as they lie.

Its variable-length kernel takes sequences of any length end to end, aligns a chunk's queries with the end of its
context and reads keys through a page table. Wants 16-bit tensors and pages of a multiple of 256 tokens.
"""

from collections.abc import Callable

import torch
from torch.nn import functional as F

from llm_service.model.attention.interface import Attend, AttentionKernel
from llm_service.model.step import StepInput

PAGE_MULTIPLE = 256
"""Tokens: flash-attn 2 walks pages in blocks of so many."""
_CAPABILITY = (8, 0)
"""Ampere, the oldest it runs on; elsewhere its kernel raises at the first call."""


class FlashUnsupported(ValueError):
    """flash-attn cannot run with this device, dtype or page size, or is not installed."""


class FlashAttention(AttentionKernel):
    """`varlen_attention` is flash_attn.flash_attn_varlen_func, or anything that keeps its contract."""

    name = "flash"

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

    def begin(self, step: StepInput, page_size: int) -> Attend:
        device = step.page_tables.device
        arguments = {
            "cu_seqlens_q": _borders(step.query_lens).to(device),
            "cu_seqlens_k": _borders(step.seq_lens).to(device),
            "max_seqlen_q": int(step.query_lens.max()),
            "max_seqlen_k": int(step.seq_lens.max()),
            "block_table": step.page_tables,
            "causal": True,
        }

        def attend(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float) -> torch.Tensor:
            return self._varlen_attention(query, keys, values, softmax_scale=scaling, **arguments)

        return attend


def _borders(counts: torch.Tensor) -> torch.Tensor:
    """int32 (S + 1,): where each sequence begins, and where the last ends."""
    return F.pad(counts.cumsum(0), (1, 0)).to(torch.int32)
