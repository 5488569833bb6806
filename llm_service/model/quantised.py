"""Weights in 8 bits: half the memory of bfloat16, and half of what a decoding step reads.

Each row of a weight is scaled by its own largest value (absmax, symmetric); activations stay as they are. Embedding and
vocabulary are never quantised. The arithmetic is PyTorch's own int8 operator where it is fast.
"""

import torch
from torch.nn import functional as F

from llm_service.model.projection import Projection

_LARGEST = 127


class Int8Projection(Projection):
    """A weight (O, I) as int8 and one scale a row: entry = int8 * scale."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, *, has_kernel: bool) -> None:
        """`has_kernel`: as `has_int8_kernel` says of the weight's device and dtype."""
        rows = weight.float()
        scale = rows.abs().amax(dim=1) / _LARGEST
        self._scale = scale.to(weight.dtype).clamp(min=torch.finfo(weight.dtype).tiny)
        # Rows are divided by the scale that will be used: rounded to 16 bits it is off by up to 0.4 % of a whole row.
        entries = (rows / self._scale.float()[:, None]).round().clamp(-_LARGEST, _LARGEST)
        self._int8 = entries.to(torch.int8)
        self._bias = bias
        self._has_kernel = has_kernel

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self._has_kernel:
            result = torch._weight_int8pack_mm(x, self._int8, self._scale)
        else:  # the weight is made large again on every call: less memory, more time
            result = F.linear(x, self._int8.to(x.dtype)) * self._scale
        return result if self._bias is None else result + self._bias


def has_int8_kernel(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether PyTorch multiplies int8 weights fast here. On a CPU only in bfloat16: others take plain loops."""
    if device.type == "cpu" and dtype != torch.bfloat16:
        return False
    try:
        weight, scale = torch.zeros(16, 32, dtype=torch.int8, device=device), torch.ones(16, dtype=dtype, device=device)
        torch._weight_int8pack_mm(torch.ones(1, 32, dtype=dtype, device=device), weight, scale)
    except (RuntimeError, AttributeError):  # no kernel for this dtype or device in this PyTorch
        return False
    return True
