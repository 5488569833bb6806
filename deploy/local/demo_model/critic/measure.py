"""Best-of-N with the critic, against one sample, the likeliest reply and a majority vote, on held-out questions.

python -m deploy.local.demo_model.critic.measure [--run FOLDER] [--questions 200] [--samples 8]
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import InternVLForConditionalGeneration, PreTrainedTokenizerBase

from deploy.local.demo_model.critic.scoring import best, majority, scores
from deploy.local.demo_model.critic.solutions import TEMPERATURE, question
from deploy.local.demo_model.drawing.digits import Split
from deploy.local.demo_model.network.sampling import replies
from deploy.local.demo_model.recipe import state
from deploy.local.demo_model.talk.examples import prompt
from deploy.local.demo_model.train import learner_for, run_tokenizer

FIRST_SEED = 12_000_000


def shares(
    model: InternVLForConditionalGeneration,
    critic: InternVLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    *,
    questions: int,
    samples: int,
) -> dict[str, float]:
    """Share of questions each way of choosing gets right."""
    right: dict[str, float] = defaultdict(float)
    for seed in tqdm(range(FIRST_SEED, FIRST_SEED + questions), unit="question"):
        exchange = question(seed, Split.HELD_OUT)
        asked = prompt(tokenizer, [exchange])
        generator = torch.Generator().manual_seed(seed)
        said = replies(model, tokenizer, [asked] * samples, temperature=TEMPERATURE, generator=generator)
        scored = scores(critic, tokenizer, exchange, said)
        likeliest = replies(model, tokenizer, [asked])[0]
        accepted = [exchange.turn.accepts(reply) for reply in said]
        right["one sample"] += sum(accepted) / samples
        right["likeliest reply"] += exchange.turn.accepts(likeliest)
        right["majority vote"] += exchange.turn.accepts(majority(said))
        right["best by the critic"] += exchange.turn.accepts(best(said, scored))
        right["any of the samples"] += any(accepted)
    return {way: count / questions for way, count in right.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=state.default_folder())
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--out", type=Path, help="file for the result, in JSON")
    arguments = parser.parse_args()
    tokenizer = run_tokenizer(arguments.run)
    model, critic = (learner_for(tokenizer, 1).model for _ in range(2))
    for network, folder, name in (
        (model, arguments.run, "finetuning.pt"),
        (critic, arguments.run / "critic", "critic.pt"),
    ):
        saved = state.load(folder, name)
        if saved is None:
            raise SystemExit(f"{folder} has no {name}")
        network.load_state_dict(saved["average"])
    found = shares(model, critic, tokenizer, questions=arguments.questions, samples=arguments.samples)
    for way, share in found.items():
        print(f"{way:20} {share:.1%}")
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
