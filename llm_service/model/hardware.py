"""Chooses what this machine computes with: dtype, linear maps, norms, attention, page size. Once, and handed down.

Decided by the thread that will compute (docs/decisions/0017), in this order: the native kernels (native.cpp) if the
processor multiplies faster in float32 than in bfloat16 and they can be had; the dtype; attention and its pages.

    device          linear maps                                       norms            attention
    CPU, bfloat16   native, else packed with AVX-512, else dense      native, PyTorch  native, sdpa
    CPU, others     packed, else dense                                PyTorch          sdpa
    CUDA            dense                                             PyTorch          flash, sdpa

With 8-bit weights the linear maps of the layers are int8, and the vocabulary's are as above.
"""

import logging
from dataclasses import dataclass
from typing import Any, Literal

import torch

from llm_service.model.attention.flash import PAGE_MULTIPLE, FlashAttention, FlashUnsupported
from llm_service.model.attention.interface import AttentionKernel
from llm_service.model.attention.native import NativeAttention
from llm_service.model.attention.sdpa import SdpaAttention
from llm_service.model.kernels.build import NativeUnsupported
from llm_service.model.kernels.native import Native, load_native
from llm_service.model.kernels.widening import widens
from llm_service.model.norm import Norm
from llm_service.model.projection import (
    DenseProjection,
    NativeProjection,
    PackedProjection,
    Projection,
    can_pack,
)
from llm_service.model.quantised import Int8Projection, has_int8_kernel

log = logging.getLogger(__name__)
AttentionName = Literal["auto", "flash", "native", "sdpa"]
KernelsName = Literal["auto", "native", "pytorch"]
WeightsName = Literal["stored", "int8"]
SMALL_PAGE_SIZE = 16
"""Tokens. Smaller pages share more of a prefix, larger ones have shorter tables."""


@dataclass(frozen=True)
class Hardware:
    """The decision, of one rank."""

    device: torch.device
    dtype: torch.dtype
    weights: WeightsName
    native: Native | None
    """Kernels of linear maps and norms; None: PyTorch's."""
    is_packed: bool
    """Whether PyTorch's linear maps take packed weights."""
    has_int8_kernel: bool
    attention: AttentionKernel
    page_size: int

    @classmethod
    def choose(
        cls,
        device: torch.device,
        *,
        dtype: str = "auto",
        weights: WeightsName = "stored",
        kernels: KernelsName = "auto",
        attention: AttentionName = "auto",
        page_size: int = 0,
    ) -> "Hardware":
        """Call it in the thread that will compute. A page size of 0 leaves that to attention.

        `dtype` of PyTorch, or auto: bfloat16, but float32 on a CPU that is slow in it and has no native kernels; 8-bit
        weights have fast kernels for bfloat16 alone. `kernels`: of a CPU in bfloat16; auto: by a measurement.

        Raises FlashUnsupported and NativeUnsupported for what is asked for by name and cannot run.
        """
        is_bfloat16 = dtype in ("auto", "bfloat16")
        if kernels == "native" and not is_bfloat16:
            raise NativeUnsupported(f"native kernels compute in bfloat16, not in {dtype}")
        is_slow = kernels == "auto" and is_bfloat16 and widens(device, torch.bfloat16)
        native = _native(kernels) if is_slow or kernels == "native" else None
        if dtype == "auto":
            dtype = "float32" if is_slow and native is None and weights == "stored" else "bfloat16"
        torch_dtype: torch.dtype = getattr(torch, dtype)
        kernel, page_size = _attention(attention, native, device, torch_dtype, page_size)
        hardware = cls(
            device=device,
            dtype=torch_dtype,
            weights=weights,
            native=native,
            is_packed=native is None and can_pack(device, torch_dtype),
            has_int8_kernel=weights == "int8" and has_int8_kernel(device, torch_dtype),
            attention=kernel,
            page_size=page_size,
        )
        log.info("computing in %s", hardware)
        return hardware

    def linear(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Projection:
        """Holds a weight (O, I) as it was loaded."""
        if self.native is not None and weight.shape[1] % 2 == 0:
            return NativeProjection(weight, bias, self.native)
        return PackedProjection(weight, bias) if self.is_packed else DenseProjection(weight, bias)

    def layer_linear(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Projection:
        """Holds a weight (O, I) of a layer, which may be quantised."""
        if self.weights == "int8":
            return Int8Projection(weight, bias, has_kernel=self.has_int8_kernel)
        return self.linear(weight, bias)

    def norm(self, module: torch.nn.Module) -> Norm:
        """The norm of a module of transformers."""
        return Norm(module, self.native)

    def choices(self) -> dict[str, Any]:
        """The arguments with which another rank chooses the same."""
        return {
            "dtype": str(self.dtype).removeprefix("torch."),
            "kernels": "native" if self.native else "pytorch",
            "attention": self.attention.name,
            "page_size": self.page_size,
        }

    def __str__(self) -> str:
        linear = "native" if self.native else "packed" if self.is_packed else "dense"
        if self.weights == "int8":
            linear = "int8" if self.has_int8_kernel else "int8 (widened in each call)"
        norms = "native" if self.native else "pytorch"
        dtype = str(self.dtype).removeprefix("torch.")
        return (
            f"{dtype} on {self.device}: linear maps {linear}, norms {norms}, "
            f"attention {self.attention.name} in pages of {self.page_size} tokens"
        )


def _native(kernels: KernelsName) -> Native | None:
    try:
        return load_native()
    except NativeUnsupported as error:
        if kernels == "native":
            raise
        log.warning("PyTorch's kernels compute in bfloat16, which takes longer", extra={"cause": str(error)})
        return None


def _attention(
    name: AttentionName, native: Native | None, device: torch.device, dtype: torch.dtype, page_size: int
) -> tuple[AttentionKernel, int]:
    """The kernel and its page size: flash-attn where it runs, native where the kernels are, else sdpa."""
    if name in ("auto", "flash"):
        flash_page_size = page_size or PAGE_MULTIPLE
        try:
            return FlashAttention.load(device, dtype, flash_page_size), flash_page_size
        except FlashUnsupported as error:
            if name == "flash":
                raise
            if device.type == "cuda":
                log.info("flash-attn does not run here", extra={"cause": str(error)})
    page_size = page_size or SMALL_PAGE_SIZE
    if name in ("auto", "native") and native is not None:
        return NativeAttention(native), page_size
    if name == "native":
        raise NativeUnsupported("native wants bfloat16, a CPU that multiplies faster in float32, and a C++ compiler")
    return SdpaAttention(), page_size
