"""Solutions that the demo model samples, each step labelled by whether it still leads to the right answer.

As VisualPRM's data is made (arXiv:2503.10291, section 3): continuations are sampled from each step on; the step is good
if any of them reaches the right answer. A line of `solutions.jsonl` is {"seed", "steps", "labels"}: the seed draws the
question again.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from transformers import InternVLForConditionalGeneration, PreTrainedTokenizerBase

from deploy.local.demo_model.drawing.digits import Split
from deploy.local.demo_model.drawing.library import single_tile_size
from deploy.local.demo_model.network.sampling import replies
from deploy.local.demo_model.talk.conversations import Talker, Topic
from deploy.local.demo_model.talk.examples import Exchange, prompt
from deploy.local.demo_model.talk.turns import STEP_END, Skill, Turn

TEMPERATURE = 1.0
SOLUTIONS = 4
"""Sampled for each question."""
CONTINUATIONS = 4
"""Sampled from each step."""
FIRST_SEED = 8_000_000


@dataclass(frozen=True)
class Solution:
    """A sampled solution with its labels."""

    seed: int
    steps: tuple[str, ...]
    labels: tuple[bool, ...]


def question(seed: int, split: Split) -> Exchange:
    """A question with several steps: a sum over a chart, or over two kinds of shapes."""
    rng = np.random.default_rng(seed)
    talker = Talker(split, rng)
    while True:
        topic = talker.chart(single_tile_size(rng)) if rng.random() < 0.5 else talker.shapes(single_tile_size(rng))
        for _ in range(30):
            turn = topic.ask()
            if turn.skill is Skill.STEPS:
                return talker.one_picture(Topic(topic.drawing, _Always(turn)), turns=1)[0]


@dataclass(frozen=True)
class _Always:
    """Asks the same."""

    turn: Turn

    def __call__(self) -> Turn:
        return self.turn


def read(path: Path) -> list[Solution]:
    """The solutions made so far."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [
        Solution(fields["seed"], tuple(fields["steps"]), tuple(fields["labels"])) for fields in map(json.loads, lines)
    ]


def make(model: InternVLForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, path: Path, count: int) -> None:
    """Bring the file to `count` solutions; picks up where an earlier call left off."""
    have = read(path)
    seed = max((solution.seed for solution in have), default=FIRST_SEED - 1) + 1
    bar = tqdm(total=count, initial=len(have), unit="solution", mininterval=20)
    with path.open("a") as file:
        while bar.n < count:
            for solution in sampled(model, tokenizer, seed):
                file.write(json.dumps(asdict(solution)) + "\n")
                bar.update()
            file.flush()
            seed += 1


def sampled(model: InternVLForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, seed: int) -> list[Solution]:
    """Labelled solutions of one question, no two alike."""
    exchange = question(seed, Split.TRAIN)
    generator = torch.Generator().manual_seed(seed)
    asked = prompt(tokenizer, [exchange])
    said = replies(model, tokenizer, [asked] * SOLUTIONS, temperature=TEMPERATURE, generator=generator)
    solutions = []
    for text in dict.fromkeys(said):
        steps = tuple(text.split(STEP_END))
        labels = [_leads_on(model, tokenizer, exchange, steps[:end], generator) for end in range(1, len(steps))]
        solutions.append(Solution(seed, steps, (*labels, exchange.turn.accepts(text))))
    return solutions


def _leads_on(
    model: InternVLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    exchange: Exchange,
    steps: Sequence[str],
    generator: torch.Generator,
) -> bool:
    """Whether any continuation after these steps reaches the right answer."""
    begun = STEP_END.join(steps) + STEP_END
    asked = prompt(tokenizer, [exchange], begun=begun)
    said = replies(model, tokenizer, [asked] * CONTINUATIONS, temperature=TEMPERATURE, generator=generator)
    return any(exchange.turn.accepts(begun + rest) for rest in said)
