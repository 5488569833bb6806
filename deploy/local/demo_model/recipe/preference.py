"""Mixed preference optimization on pairs that the model made itself.

MPO (arXiv:2411.10442) as InternVL3 uses it (arXiv:2504.10479, section 2.3): 0.8 x preference (DPO) + 0.2 x quality
(BCO) + 1 x generation loss; the weights are those of the paper and of InternVL's training scripts. c is the chosen and
r the rejected reply, p the model, q the model as it was before this part:

    reward(y)   = beta * (log p(y) - log q(y))
    preference  = -log sigmoid(reward(c) - reward(r))
    quality     = -log sigmoid(reward(c) - shift) - log sigmoid(shift - reward(r))       shift: mean reward so far
    generation  = -log p(c) / length of c

Shapes: R replies of a pack (chosen and rejected in turn), A their tokens, T tokens of the pack.
"""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import InternVLForConditionalGeneration, PreTrainedTokenizerBase

from deploy.local.demo_model.network.forward import predictions, visual_tokens
from deploy.local.demo_model.network.learner import Learner, Losses
from deploy.local.demo_model.network.packs import Pack, packed
from deploy.local.demo_model.recipe import pairs, state
from deploy.local.demo_model.recipe.run import Part, warm_up_and_fall

PREFERENCE_WEIGHT = 0.8
QUALITY_WEIGHT = 0.2
GENERATION_WEIGHT = 1.0
BETA = 0.1
SHIFT_KEPT = 0.99
PAIRS_PER_MICRO_BATCH = 10
HIGHEST_RATE = 0.05
"""Of the learning rate of pre-training."""
WARM_UP = 10


class Preference(Part):
    """Learns which of its own replies are right."""

    name = "preference"

    def __init__(self, tokenizer: PreTrainedTokenizerBase, folder: Path, *, steps: int, pair_count: int) -> None:
        self.tokenizer, self.folder = tokenizer, folder
        self.steps, self.pair_count = steps, pair_count
        self.reference: InternVLForConditionalGeneration | None = None
        self.pairs: list[pairs.Pair] = []

    def begin(self, learner: Learner) -> None:
        """The reference is the model at the end of fine-tuning; it also makes the pairs."""
        before = state.load(self.folder, "finetuning.pt")
        if before is None:
            raise FileNotFoundError(f"{self.folder} has no finetuning.pt, from which preferences are learned")
        self.reference = deepcopy(learner.model).requires_grad_(False)
        self.reference.load_state_dict(before["average"])
        path = self.folder / "pairs.jsonl"
        pairs.make(self.reference, self.tokenizer, path, self.pair_count)
        self.pairs = pairs.read(path)[: self.pair_count]

    def micro_batches(self, seed: int) -> Iterator[Pack]:
        rng = np.random.default_rng(seed)
        while True:
            order = rng.permutation(len(self.pairs))
            for start in range(0, len(order) - PAIRS_PER_MICRO_BATCH + 1, PAIRS_PER_MICRO_BATCH):
                chosen = [self.pairs[index] for index in order[start : start + PAIRS_PER_MICRO_BATCH]]
                yield packed([example for pair in chosen for example in pair.examples(self.tokenizer)])

    def loss(self, learner: Learner, micro_batch: Pack) -> tuple[torch.Tensor, Losses]:
        assert self.reference is not None
        log_shares = reply_log_shares(learner.model, micro_batch)
        with torch.no_grad():
            before = reply_log_shares(self.reference, micro_batch)
        preference, quality, generation, rewards = mixed_losses(
            log_shares, before, reply_lengths(micro_batch), learner.reward_shift
        )
        loss = PREFERENCE_WEIGHT * preference + QUALITY_WEIGHT * quality + GENERATION_WEIGHT * generation
        chosen, rejected = rewards[0::2], rewards[1::2]
        return loss, {
            "preference": preference.item(),
            "quality": quality.item(),
            "generation": generation.item(),
            "reward": rewards.mean().item(),
            "pairs right": (chosen > rejected).float().mean().item(),
        }

    def learned(self, learner: Learner, losses: Losses) -> None:
        learner.reward_shift += (1 - SHIFT_KEPT) * (losses["reward"] - learner.reward_shift)

    def rate(self, step: int) -> float:
        return warm_up_and_fall(step, self.steps, warm_up=WARM_UP, falling=self.steps // 2, highest=HIGHEST_RATE)


def mixed_losses(
    log_shares: torch.Tensor, before: torch.Tensor, lengths: torch.Tensor, shift: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log probabilities (R,) of replies now and before, and their lengths, to the three losses and the rewards (R,)."""
    rewards = BETA * (log_shares - before)
    chosen, rejected = rewards[0::2], rewards[1::2]
    preference = -functional.logsigmoid(chosen - rejected).mean()
    quality = -(functional.logsigmoid(chosen - shift) + functional.logsigmoid(shift - rejected)).mean()
    generation = -(log_shares[0::2] / lengths[0::2]).mean()
    return preference, quality, generation, rewards.detach()


def reply_log_shares(model: InternVLForConditionalGeneration, pack: Pack) -> torch.Tensor:
    """Log probability of each conversation's replies, (R,)."""
    visual = visual_tokens(model, pack.tiles) if len(pack.tiles) else torch.empty(0)
    scores = predictions(model, pack, visual)
    of_tokens = -functional.cross_entropy(scores, pack.token_ids[pack.predicted], reduction="none")
    return torch.zeros(len(pack.segments)).index_add(0, _segment_of(pack), of_tokens)


def reply_lengths(pack: Pack) -> torch.Tensor:
    """Tokens of each conversation's replies, (R,)."""
    return torch.bincount(_segment_of(pack), minlength=len(pack.segments))


def _segment_of(pack: Pack) -> torch.Tensor:
    """Which conversation each predicted token belongs to, (A,)."""
    ends = torch.tensor([end for _, end in pack.segments])
    return torch.searchsorted(ends, pack.predicted, right=True)
