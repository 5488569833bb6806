"""Which attention kernel runs, and with pages of what size."""

import logging
from typing import Any, Literal

import torch

from llm_service.model.attention import AttentionKernel
from llm_service.model.flash import PAGE_MULTIPLE, FlashAttention, FlashUnsupported
from llm_service.model.native import native_for
from llm_service.model.native_attention import NativeAttention
from llm_service.model.sdpa import SdpaAttention
from llm_service.model.widening import widens

log = logging.getLogger(__name__)
KernelName = Literal["auto", "sdpa", "flash"]
SDPA_PAGE_SIZE = 16
"""Tokens. Smaller pages share more of a prefix, larger ones have shorter tables."""


def choose_kernel(
    name: KernelName, *, device: torch.device, dtype: torch.dtype, page_size: int
) -> tuple[AttentionKernel[Any], int]:
    """The kernel and its page size; a `page_size` of 0 leaves that to the kernel, `auto` is flash-attn where it runs.

    Raises FlashUnsupported if flash-attn is asked for by name and cannot run.
    """
    if name != "sdpa":
        flash_page_size = page_size or PAGE_MULTIPLE
        try:
            kernel = FlashAttention.load(device, dtype, flash_page_size)
        except FlashUnsupported as error:
            if name == "flash":
                raise
            log.info("attention by PyTorch's SDPA", extra={"cause": str(error)})
        else:
            log.info("attention by flash-attn")
            return kernel, flash_page_size
    native = native_for(device, dtype) if name == "auto" else None
    if native is not None:
        return NativeAttention(native), page_size or SDPA_PAGE_SIZE
    return SdpaAttention(widen_chunks=widens(device, dtype)), page_size or SDPA_PAGE_SIZE
