"""Supervised fine-tuning on conversations: only answers are learned.

As InternVL2.5 (arXiv:2412.05271, sections 3.3 and 4) and InternVL3 (arXiv:2504.10479, section 2.3) do: pictures are
compressed as JPEG by lot, losses averaged by the square root of an answer's length, and conversations packed.
"""

from collections.abc import Iterator

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from deploy.local.demo_model.drawing.digits import Split
from deploy.local.demo_model.network.learner import Learner, Losses
from deploy.local.demo_model.network.packs import Pack, packs
from deploy.local.demo_model.recipe.language import pack_loss
from deploy.local.demo_model.recipe.run import Part, warm_up_and_fall
from deploy.local.demo_model.talk.conversations import Talker, example
from deploy.local.demo_model.talk.examples import Example

SIDE_WEIGHT = 0.3
WARM_UP = 20
FALLING_SHARE = 0.4
"""Share of the steps over which the learning rate falls to nothing."""


class Finetuning(Part):
    """Conversations, answers learned."""

    name = "finetuning"

    def __init__(self, tokenizer: PreTrainedTokenizerBase, steps: int, *, increment: int | None = None) -> None:
        self.tokenizer, self.steps, self.increment = tokenizer, steps, increment

    def begin(self, learner: Learner) -> None:
        learner.freeze()

    def micro_batches(self, seed: int) -> Iterator[Pack]:
        rng = np.random.default_rng(seed)
        return packs(self._examples(rng), rng)

    def loss(self, learner: Learner, micro_batch: Pack) -> tuple[torch.Tensor, Losses]:
        return pack_loss(learner, micro_batch, side_weight=SIDE_WEIGHT)

    def rate(self, step: int) -> float:
        return warm_up_and_fall(step, self.steps, warm_up=WARM_UP, falling=round(FALLING_SHARE * self.steps))

    def _examples(self, rng: np.random.Generator) -> Iterator[Example]:
        talker = Talker(Split.TRAIN, rng, self.increment)
        while True:
            yield example(talker, self.tokenizer)
