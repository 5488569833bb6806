"""Tensor parallelism: processes that each hold a part of every weight and compute every step together.

Weights are cut where the decoder's own plan says (transformers' tp_plan). Of attention and MLP each rank has whole
heads and some of the inner width, so that a layer needs only two sums over the ranks; embedding and vocabulary are cut
by rows, which need not divide evenly.
"""

import re
from collections.abc import Callable, Mapping

import torch
import torch.distributed
from torch.nn import functional as F
from transformers import PretrainedConfig

from llm_service.model.step import StepInput

_CUT_AXES: Mapping[str, int | None] = {
    "colwise": 0,
    "colwise_gather_output": 0,
    "embedding_rowwise": 0,
    "rowwise": 1,
    "replicated_with_grad_allreduce": None,
}
"""Styles of a plan -> the axis of the weight (O, I) that is cut."""


class RanksUnsupported(ValueError):
    """A decoder that so many ranks cannot share, or a plan that is not understood."""


class Ranks:
    """This process among those that hold the model. One rank holds all and never communicates.

    More than one need torch.distributed's default group; the first of them is a FirstRank.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    def share(self, count: int) -> slice:
        """This rank's part of `count` things: as many for each but the last, which may have fewer."""
        each = -(-count // self.size)
        return slice(min(self.rank * each, count), min((self.rank + 1) * each, count))

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        """The sum of all ranks' x, in place."""
        if self.size > 1:
            torch.distributed.all_reduce(x)
        return x

    def join(self, x: torch.Tensor, count: int) -> torch.Tensor:
        """All ranks' columns (S, share of count) side by side, (S, count)."""
        if self.size == 1:
            return x
        each = -(-count // self.size)
        own = F.pad(x, (0, each - x.shape[1])).contiguous()
        parts = [torch.empty_like(own) for _ in range(self.size)]
        torch.distributed.all_gather(parts, own)
        return torch.cat(parts, dim=1)[:, :count]

    def send(self, step: StepInput) -> None:
        """Has the other ranks compute this step, if this is the first of several. Raises RankDied."""

    def watch(self, died: Callable[[str], None]) -> None:
        """Calls `died` with the reason, from a thread, when another rank ends before `close`."""

    def close(self) -> None:
        """Ends the other ranks' processes."""

    def require_divides(self, config: PretrainedConfig) -> None:
        """Raises RanksUnsupported unless every rank can have the same number of heads and of inner features."""
        for what in ("num_attention_heads", "num_key_value_heads", "intermediate_size"):
            count = int(getattr(config, what))
            if count % self.size:
                raise RanksUnsupported(f"{self.size} ranks cannot share this model: {what} is {count}")


class Cut:
    """The part of each weight that a rank holds."""

    def __init__(self, plan: Mapping[str, str], ranks: Ranks) -> None:
        """`plan`: names of modules, layer numbers as *, to styles. Raises RanksUnsupported for an unknown style."""
        unknown = sorted(set(plan.values()) - _CUT_AXES.keys())
        if unknown and ranks.size > 1:
            raise RanksUnsupported(f"ways of cutting weights that are not known here: {unknown}")
        self._ranks = ranks
        self._axes = {name: _CUT_AXES.get(style) for name, style in plan.items()}

    def __call__(self, name: str, shape: tuple[int, ...]) -> tuple[slice, ...]:
        """The part of the parameter `name`, weight (O, I) or bias (O,)."""
        whole = tuple(slice(0, size) for size in shape)
        axis = self._axes.get(re.sub(r"\.\d+\.", ".*.", name.rpartition(".")[0]))
        if axis is None or axis >= len(shape):
            return whole
        return (*whole[:axis], self._ranks.share(shape[axis]), *whole[axis + 1 :])
