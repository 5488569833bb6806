"""What native pre-training is compared with: the staged pipeline, in which at first only the projector learns.

InternVL3's card replaces InternVL2-8B's warm-up of the MLP by native pre-training and leaves all else unchanged. Here,
too, both see the same documents for the same number of steps: the language model learns from text alone for half of
them, then the projector alone from image-text for the other half.
"""

from collections.abc import Iterator

import numpy as np

from deploy.local.demo_model.drawing.digits import Split
from deploy.local.demo_model.network.learner import Learner
from deploy.local.demo_model.network.packs import Pack, packs
from deploy.local.demo_model.recipe.pretraining import Pretraining
from deploy.local.demo_model.talk.conversations import Talker
from deploy.local.demo_model.talk.documents import Documents
from deploy.local.demo_model.talk.examples import Example

TOWER = "model.vision_tower."
PROJECTOR = "model.multi_modal_projector."
TEXT = ("model.language_model.", "lm_head.")


class TextOnly(Pretraining):
    """The language model learns from text; tower and projector stay."""

    name = "text"

    def begin(self, learner: Learner) -> None:
        learner.freeze(TOWER, PROJECTOR)

    def micro_batches(self, seed: int) -> Iterator[Pack]:
        rng = np.random.default_rng(seed)
        return packs(self._text(rng), rng)

    def _text(self, rng: np.random.Generator) -> Iterator[Example]:
        """Text, and once in a while a picture, so that no pack is without one."""
        documents = Documents(Talker(Split.TRAIN, rng, self.increment, jpeg=False), self.tokenizer)
        while True:
            yield documents.text() if rng.random() < 0.98 else documents.example()


class Alignment(Pretraining):
    """The projector learns from documents; tower and language model stay."""

    name = "alignment"

    def begin(self, learner: Learner) -> None:
        learner.freeze(TOWER, *TEXT)
