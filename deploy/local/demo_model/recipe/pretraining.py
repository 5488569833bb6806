"""Native multimodal pre-training: text and interleaved image-text in one stage, all weights at once.

InternVL3, section 2.2 (arXiv:2504.10479): no stage in which only the projector learns; one part of language to three
of multimodal data; the loss is that of text tokens only, each weighted by 1 / sqrt(text tokens of its sample); V2PE
with an increment drawn per picture.
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
from deploy.local.demo_model.talk.conversations import Talker
from deploy.local.demo_model.talk.documents import Documents
from deploy.local.demo_model.talk.examples import Example

SIDE_WEIGHT = 0.5
WARM_UP = 80


class Pretraining(Part):
    """Documents, all text learned."""

    name = "pretraining"

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
        return warm_up_and_fall(step, self.steps, warm_up=WARM_UP, falling=0)

    def _examples(self, rng: np.random.Generator) -> Iterator[Example]:
        documents = Documents(Talker(Split.TRAIN, rng, self.increment, jpeg=False), self.tokenizer)
        while True:
            yield documents.example()
