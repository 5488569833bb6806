"""The critic learns to judge the steps of solutions that the demo model sampled.

    python -m deploy.local.demo_model.critic.learning [--run FOLDER]     # picks up where an earlier run left off

It starts from the fine-tuned demo model in the run's folder, and keeps its own state in `critic/` there.
"""

import argparse
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from deploy.local.demo_model.critic import solutions
from deploy.local.demo_model.critic.layout import judged
from deploy.local.demo_model.critic.solutions import Solution
from deploy.local.demo_model.drawing.digits import Split
from deploy.local.demo_model.network.forward import predictions, visual_tokens
from deploy.local.demo_model.network.learner import Learner, Losses
from deploy.local.demo_model.network.packs import Pack, packs
from deploy.local.demo_model.recipe import state
from deploy.local.demo_model.recipe.run import Part, Run, warm_up_and_fall
from deploy.local.demo_model.talk.examples import Example
from deploy.local.demo_model.train import learner_for, run_tokenizer

HIGHEST_RATE = 0.3
"""Of the learning rate of pre-training."""
WARM_UP = 20


class Judging(Part):
    """A label for each step."""

    name = "critic"

    def __init__(self, tokenizer: PreTrainedTokenizerBase, made: Sequence[Solution], steps: int) -> None:
        self.tokenizer, self.made, self.steps = tokenizer, made, steps

    def micro_batches(self, seed: int) -> Iterator[Pack]:
        rng = np.random.default_rng(seed)
        return packs(self._examples(rng), rng)

    def loss(self, learner: Learner, micro_batch: Pack) -> tuple[torch.Tensor, Losses]:
        scores = predictions(learner.model, micro_batch, visual_tokens(learner.model, micro_batch.tiles))
        labels = micro_batch.token_ids[micro_batch.predicted]
        loss = functional.cross_entropy(scores, labels)
        right = (scores.argmax(-1) == labels).float().mean()
        return loss, {"judgements": loss.item(), "judgements right": right.item()}

    def rate(self, step: int) -> float:
        return warm_up_and_fall(step, self.steps, warm_up=WARM_UP, falling=self.steps // 2, highest=HIGHEST_RATE)

    def _examples(self, rng: np.random.Generator) -> Iterator[Example]:
        while True:
            for index in rng.permutation(len(self.made)):
                one = self.made[index]
                exchange = solutions.question(one.seed, Split.TRAIN)
                yield judged(self.tokenizer, exchange, one.steps, one.labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=state.default_folder(), help="folder of the demo model's run")
    parser.add_argument("--solutions", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    before = state.load(arguments.run, "finetuning.pt")
    if before is None:
        raise SystemExit(f"{arguments.run} has no finetuning.pt: train the demo model first")
    tokenizer = run_tokenizer(arguments.run)
    learner = learner_for(tokenizer, arguments.threads)
    learner.model.load_state_dict(before["average"])
    path = arguments.run / "solutions.jsonl"
    solutions.make(learner.model, tokenizer, path, arguments.solutions)
    part = Judging(tokenizer, solutions.read(path)[: arguments.solutions], arguments.steps)
    run = Run(arguments.run / "critic", learner, [part])
    signal.signal(signal.SIGTERM, run.stop)
    run.resume()
    run.go(part.name)


if __name__ == "__main__":
    main()
