"""Linear maps, with what follows them in a decoder layer done in the same pass where the hardware can.

Every projection takes x (T, I) and gives (T, O). Each kind equals `DenseProjection`; they differ in how weights lie in
memory and in what they cost.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch.nn import functional as F

from llm_service.model.kernels.native import Native
from llm_service.model.ranks.ranks import Ranks


class Projection(ABC):
    """x (T, I) -> (T, O)."""

    @abstractmethod
    def __call__(self, x: torch.Tensor) -> torch.Tensor: ...

    def silu(self, x: torch.Tensor) -> torch.Tensor:
        """SiLU of the result."""
        return F.silu(self(x))

    def times(self, x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        """The result times (T, O)."""
        return self(x) * factor

    def plus(self, x: torch.Tensor, term: torch.Tensor) -> torch.Tensor:
        """The result plus (T, O)."""
        return self(x) + term


class DenseProjection(Projection):
    """The weight as it was loaded, (O, I)."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight, self._bias = weight, bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self._weight, self._bias)


class PackedProjection(Projection):
    """The weight once reordered into the blocks oneDNN's CPU kernels read, not on every call.

    F.linear on a CPU reorders, or falls into kernels made for large batches: with a few rows, as in decoding, it takes
    2 to 3 times as long (docs/benchmarks.md). These are the operators that torch.compile's freezing puts in.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        self._bias = bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._pointwise(x, "none")

    def silu(self, x: torch.Tensor) -> torch.Tensor:
        return self._pointwise(x, "swish")

    def times(self, x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        return self._binary(x, factor, "mul")

    def plus(self, x: torch.Tensor, term: torch.Tensor) -> torch.Tensor:
        return self._binary(x, term, "add")

    def _pointwise(self, x: torch.Tensor, then: str) -> torch.Tensor:
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, then, [], "")
        return result

    def _binary(self, x: torch.Tensor, other: torch.Tensor, then: str) -> torch.Tensor:
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, self._weight, self._bias, then)
        return result


class NativeProjection(Projection):
    """A bfloat16 weight as `native.cpp` reads it: at memory's rate for few rows, and multiplied in float32."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, native: Native) -> None:
        """`weight` (O, I), I even."""
        self._packed, self._bias, self._size = native.pack(weight), bias, len(weight)
        self._native = native

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._native.linear(self._packed, x, self._size, bias=self._bias)

    def silu(self, x: torch.Tensor) -> torch.Tensor:
        return self._native.linear(self._packed, x, self._size, bias=self._bias, silu=True)

    def times(self, x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        return self._native.linear(self._packed, x, self._size, bias=self._bias, factor=factor)

    def plus(self, x: torch.Tensor, term: torch.Tensor) -> torch.Tensor:
        return self._native.linear(self._packed, x, self._size, bias=self._bias, term=term)


class SummedProjection(Projection):
    """Each rank has its part of the input features, of x (T, I / ranks) and of the weight; the result is the sum."""

    def __init__(self, part: Projection, bias: torch.Tensor | None, ranks: Ranks) -> None:
        """`part` has no bias: that is added once."""
        self._part, self._bias, self._ranks = part, bias, ranks

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        result = self._ranks.sum(self._part(x))
        return result if self._bias is None else result.add_(self._bias)


Project = Callable[[torch.Tensor, torch.Tensor | None], Projection]
"""(weight (O, I), bias (O,)) -> projection."""


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this CPU and this build of PyTorch have packed kernels: bfloat16 wants AVX-512, float32 does not."""
    if device.type != "cpu":
        return False
    try:
        PackedProjection(torch.zeros(16, 16, dtype=dtype), None)(torch.zeros(1, 16, dtype=dtype))
    except (RuntimeError, AttributeError):  # no kernel for this dtype here; no such operator in this PyTorch
        return False
    return True
