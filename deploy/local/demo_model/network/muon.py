"""Muon: momentum whose update is made orthogonal, for the matrices of a network (K. Jordan, 2024).

torch's own orthogonalizes in bfloat16, which takes seconds a step on a CPU without it; this one stays in float32 and
treats matrices of one shape as one batch.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor

import torch
from torch.optim import Optimizer

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_MOMENTUM = 0.95


class Muon(Optimizer):
    """For 2-d parameters only. `lr` is on the scale of AdamW's."""

    def __init__(
        self, matrices: Iterable[torch.Tensor], lr: float, weight_decay: float = 0.05, *, pool: Executor
    ) -> None:
        """Matrices of different shapes are updated side by side in `pool`."""
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})
        self.pool = pool

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape[matrix.shape].append(matrix)
            means = {
                shape: torch.stack([self._momentum(matrix) for matrix in matrices])
                for shape, matrices in by_shape.items()
            }
            for matrices, updates in zip(by_shape.values(), self.pool.map(orthogonal, means.values()), strict=True):
                _update(matrices, updates, group["lr"], group["weight_decay"])

    def _momentum(self, matrix: torch.Tensor) -> torch.Tensor:
        assert matrix.grad is not None
        mean = self.state[matrix].setdefault("mean", torch.zeros_like(matrix))
        mean.lerp_(matrix.grad, 1 - _MOMENTUM)
        update: torch.Tensor = matrix.grad.lerp(mean, _MOMENTUM)
        return update


def _update(matrices: Sequence[torch.Tensor], updates: torch.Tensor, rate: float, decay: float) -> None:
    scale = 0.2 * max(updates.shape[-2:]) ** 0.5
    for matrix, update in zip(matrices, updates, strict=True):
        matrix.mul_(1 - rate * decay).add_(update, alpha=-rate * scale)


@torch.no_grad()
def orthogonal(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """The nearest matrices (B, R, C) with singular values around 1, by Newton-Schulz iteration."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: torch.Tensor = x.mT if tall else x
    return result
