"""Trains the demo model from nothing: the parts of InternVL3's recipe one after the other, on pictures it draws.

    python -m deploy.local.demo_model.train             # picks up where an earlier run left off
    python -m deploy.local.demo_model.export

The state is kept outside of the repository (--run), saved every few minutes and at the end of each part. SIGTERM ends a
run after the current step, saved; a run that was killed loses a few minutes. To halt a run that leads its process group
(started with setsid): `kill -STOP -- -$(cat RUN/pid)`, and `-CONT` to let it go on.
"""

import argparse
import os
import signal
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from deploy.local.demo_model.network.learner import Learner
from deploy.local.demo_model.recipe import state
from deploy.local.demo_model.recipe.finetuning import Finetuning
from deploy.local.demo_model.recipe.preference import Preference
from deploy.local.demo_model.recipe.pretraining import Pretraining
from deploy.local.demo_model.recipe.run import SEED, Part, Run
from deploy.local.demo_model.recipe.staged import Alignment, TextOnly
from deploy.local.demo_model.recipe.tower import Tower
from deploy.local.demo_model.talk import tokenizer as special


def parts(tokenizer: PreTrainedTokenizerBase, arguments: argparse.Namespace) -> list[Part]:
    """The recipe; with --staged, text and projector first instead of native pre-training."""
    increment, half = arguments.increment, arguments.pretraining_steps // 2
    first: list[Part] = [Pretraining(tokenizer, arguments.pretraining_steps, increment=increment)]
    if arguments.staged:
        first = [TextOnly(tokenizer, half, increment=increment), Alignment(tokenizer, half, increment=increment)]
    return [
        Tower(arguments.tower_steps),
        *first,
        Finetuning(tokenizer, arguments.finetuning_steps, increment=increment),
        Preference(tokenizer, arguments.run, steps=arguments.preference_steps, pair_count=arguments.pairs),
    ]


def learner_for(tokenizer: PreTrainedTokenizerBase, threads: int) -> Learner:
    """A learner with random weights for the tokenizer's vocabulary."""
    image_token_id = tokenizer.convert_tokens_to_ids(special.IMG_CONTEXT)
    assert isinstance(image_token_id, int)
    return Learner(len(tokenizer), image_token_id, seed=SEED, threads=threads)


def run_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The run's tokenizer: once trained it stays, even if the questions it was trained on change."""
    if not (folder / "tokenizer").exists():
        special.save(special.train(), folder / "tokenizer")
    return special.load(folder / "tokenizer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=state.default_folder(), help="folder of the run's state")
    parser.add_argument("--until", default="preference", choices=["tower", "pretraining", "finetuning", "preference"])
    parser.add_argument("--tower-steps", type=int, default=1200)
    parser.add_argument("--pretraining-steps", type=int, default=1200)
    parser.add_argument("--finetuning-steps", type=int, default=7000)
    parser.add_argument("--preference-steps", type=int, default=300)
    parser.add_argument(
        "--pairs", type=int, default=2000, help="of a right and a wrong reply, which the model makes itself"
    )
    parser.add_argument("--staged", action="store_true", help="for comparison: no native pre-training")
    parser.add_argument("--increment", type=int, help="for comparison: V2PE ticks of all pictures, instead of by lot")
    parser.add_argument("--threads", type=int, default=2, help="also the micro-batches of a step")
    arguments = parser.parse_args()
    arguments.run.mkdir(parents=True, exist_ok=True)
    (arguments.run / "pid").write_text(str(os.getpid()))
    tokenizer = run_tokenizer(arguments.run)
    run = Run(arguments.run, learner_for(tokenizer, arguments.threads), parts(tokenizer, arguments))
    signal.signal(signal.SIGTERM, run.stop)
    run.resume()
    run.go(arguments.until)


if __name__ == "__main__":
    main()
