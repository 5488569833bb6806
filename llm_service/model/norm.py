"""Root mean square norm, by PyTorch or by the native kernels."""

import torch
from torch.nn import functional as F

from llm_service.model.kernels.native import Native


class Norm:
    """Over the last axis; float32 inside."""

    def __init__(self, module: torch.nn.Module, native: Native | None) -> None:
        self._weight = module.get_parameter("weight").detach()
        self._eps = float(module.variance_epsilon)  # type: ignore[arg-type]
        self._native = native

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self._native is not None:
            return self._native.rms_norm(x, self._weight, self._eps)
        return F.rms_norm(x, self._weight.shape, self._weight, self._eps)
