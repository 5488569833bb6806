"""Which attention kernel runs, and with pages of what size."""

import logging
from typing import Any, Literal

import torch

from llm_service.model.attention.flash import PAGE_MULTIPLE, FlashAttention, FlashUnsupported
from llm_service.model.attention.interface import AttentionKernel
from llm_service.model.attention.native import NativeAttention
from llm_service.model.attention.sdpa import SdpaAttention
from llm_service.model.kernels.native import NativeUnsupported, native_for

log = logging.getLogger(__name__)
KernelName = Literal["auto", "flash", "native", "sdpa"]
SMALL_PAGE_SIZE = 16
"""Tokens. Smaller pages share more of a prefix, larger ones have shorter tables."""


def choose_kernel(
    name: KernelName, *, device: torch.device, dtype: torch.dtype, page_size: int
) -> tuple[AttentionKernel[Any], int]:
    """The kernel and its page size; a `page_size` of 0 leaves that to the kernel.

    `auto` is flash-attn where it runs, native where it is of use (`native_for`), else sdpa. Raises FlashUnsupported and
    NativeUnsupported for what is asked for by name and cannot run.
    """
    if name in ("auto", "flash"):
        flash_page_size = page_size or PAGE_MULTIPLE
        try:
            kernel = FlashAttention.load(device, dtype, flash_page_size)
        except FlashUnsupported as error:
            if name == "flash":
                raise
            log.info("flash-attn does not run here", extra={"cause": str(error)})
        else:
            log.info("attention by flash-attn")
            return kernel, flash_page_size
    native = native_for(device, dtype) if name in ("auto", "native") else None
    if native is not None:
        log.info("attention by this package's kernels")
        return NativeAttention(native), page_size or SMALL_PAGE_SIZE
    if name == "native":
        raise NativeUnsupported("native wants bfloat16, a CPU that multiplies faster in float32, and a C++ compiler")
    log.info("attention by PyTorch's SDPA")
    return SdpaAttention(), page_size or SMALL_PAGE_SIZE
