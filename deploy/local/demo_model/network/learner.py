"""The network, its optimizers, and one step of learning.

A step's micro-batches are computed side by side, each in a thread of its own on one core, and their gradients are
added in a fixed order: the same seed gives the same weights, and on a busy machine no core waits for the other at
every layer, only once a step.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import InternVLForConditionalGeneration

from deploy.local.demo_model import model as architecture
from deploy.local.demo_model.model import SIZE, Size
from deploy.local.demo_model.network.heads import Heads
from deploy.local.demo_model.network.muon import Muon

MATRIX_RATE = 3e-3
OTHER_RATE = 1.5e-3
LARGEST_GRADIENT = 1.0
AVERAGED_SHARE = 0.995
"""Share of the old in the moving average of the weights, which is what is evaluated and exported."""

M = TypeVar("M")
Losses = dict[str, float]
LossOf = Callable[[M], tuple[torch.Tensor, Losses]]
"""A micro-batch to its loss, and what to record about it."""


class Learner:
    """Everything that learning changes."""

    def __init__(self, vocab_size: int, image_token_id: int, *, seed: int, threads: int, size: Size = SIZE) -> None:
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        self.model: InternVLForConditionalGeneration = architecture.build(vocab_size, image_token_id, size)
        self.heads = Heads(size.text_width)
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads)
        matrices, others = _parameters(self.model, self.heads)
        self.parameters = matrices + others
        self.muon = Muon(matrices, lr=MATRIX_RATE, pool=self.pool)
        self.adam = torch.optim.AdamW(others, lr=OTHER_RATE, weight_decay=0.01, betas=(0.9, 0.98))
        self.average = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.reward_shift = 0.0
        """Mean reward so far, of the part that learns from preferences."""

    def freeze(self, *prefixes: str) -> None:
        """From now on, the weights whose names begin so stay as they are; all others learn."""
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not name.startswith(prefixes))

    def learn(self, micro_batches: Sequence[M], loss_of: LossOf[M], rate: float) -> Losses:
        """One step; `rate` is relative to the highest learning rate. Returns the means of the recorded losses."""
        learning = [parameter for parameter in self.parameters if parameter.requires_grad]
        self.muon.zero_grad()
        self.adam.zero_grad()

        def compute(micro_batch: M) -> tuple[tuple[torch.Tensor | None, ...], Losses]:
            loss, losses = loss_of(micro_batch)
            return torch.autograd.grad(loss, learning, allow_unused=True), losses

        results = list(self.pool.map(compute, micro_batches))
        for index, parameter in enumerate(learning):
            parts = [part for gradients, _ in results if (part := gradients[index]) is not None]
            parameter.grad = sum(parts[1:], parts[0]) / len(results) if parts else None
        norm = nn.utils.clip_grad_norm_(learning, LARGEST_GRADIENT)
        for optimizer, highest in ((self.muon, MATRIX_RATE), (self.adam, OTHER_RATE)):
            for group in optimizer.param_groups:
                group["lr"] = highest * rate
            optimizer.step()
        self._follow()
        names = results[0][1]
        means = {name: sum(losses[name] for _, losses in results) / len(results) for name in names}
        return {**means, "gradient": float(norm)}

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "average": self.average,
            "reward_shift": self.reward_shift,
            "optimizers": [self.muon.state_dict(), self.adam.state_dict()],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.average = {name: tensor.clone() for name, tensor in state["average"].items()}
        self.reward_shift = state.get("reward_shift", 0.0)
        for optimizer, saved in zip((self.muon, self.adam), state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    @torch.no_grad()
    def _follow(self) -> None:
        for name, tensor in self.model.state_dict().items():
            self.average[name].lerp_(tensor, 1 - AVERAGED_SHARE)


def _parameters(model: nn.Module, heads: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Matrices inside the layers, and everything else."""
    matrices: list[nn.Parameter] = []
    others = list(heads.parameters())
    for name, parameter in model.named_parameters():
        inside = ".layer" in name or "multi_modal_projector" in name
        (matrices if inside and parameter.ndim == 2 else others).append(parameter)
    return matrices, others
