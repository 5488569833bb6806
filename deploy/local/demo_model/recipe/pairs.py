"""Pairs of a right and a wrong reply that the model made itself, kept in a file of the run's folder.

As MPO's data with clear ground truth is made (arXiv:2411.10442, section 3): several replies to a question are sampled;
one that is right and one that is wrong make a pair; where all are right or all wrong there is nothing to learn.
A line of `pairs.jsonl` is {"seed", "chosen", "rejected"}: the seed draws the conversation again.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from transformers import InternVLForConditionalGeneration, PreTrainedTokenizerBase

from deploy.local.demo_model.drawing.digits import Split
from deploy.local.demo_model.network.sampling import replies
from deploy.local.demo_model.talk.conversations import Talker
from deploy.local.demo_model.talk.examples import Example, Exchange, conversation, prompt

TEMPERATURE = 1.0
REPLIES = 6
"""Sampled for each question."""
QUESTIONS_AT_ONCE = 6
FIRST_SEED = 4_000_000


@dataclass(frozen=True)
class Pair:
    """Two replies to one question."""

    seed: int
    chosen: str
    rejected: str

    def examples(self, tokenizer: PreTrainedTokenizerBase) -> tuple[Example, Example]:
        """The conversation with either reply."""
        exchanges, system = drawn(self.seed)
        chosen, rejected = (
            conversation(tokenizer, [*exchanges[:-1], _replied(exchanges[-1], reply)], system)
            for reply in (self.chosen, self.rejected)
        )
        return chosen, rejected


def drawn(seed: int) -> tuple[Sequence[Exchange], str]:
    """The question of a seed: the first of a conversation, and its system message."""
    exchanges, system = Talker(Split.TRAIN, np.random.default_rng(seed)).exchanges()
    return exchanges[:1], system


def read(path: Path) -> list[Pair]:
    """The pairs made so far."""
    return [Pair(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def make(model: InternVLForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, path: Path, count: int) -> None:
    """Bring the file to `count` pairs; picks up where an earlier call left off."""
    have = read(path)
    seed = max((pair.seed for pair in have), default=FIRST_SEED - 1) + 1
    bar = tqdm(total=count, initial=len(have), unit="pair", mininterval=20)
    with path.open("a") as file:
        while bar.n < count:
            for pair in sampled(model, tokenizer, range(seed, seed + QUESTIONS_AT_ONCE)):
                file.write(json.dumps(asdict(pair)) + "\n")
                bar.update()
            file.flush()
            seed += QUESTIONS_AT_ONCE


def sampled(
    model: InternVLForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, seeds: Sequence[int]
) -> Iterator[Pair]:
    """A pair of each question that was answered both rightly and wrongly."""
    asked = [drawn(seed) for seed in seeds]
    prompts = [prompt(tokenizer, exchanges, system) for exchanges, system in asked for _ in range(REPLIES)]
    generator = torch.Generator().manual_seed(seeds[0])
    said = replies(model, tokenizer, prompts, temperature=TEMPERATURE, generator=generator)
    for index, (seed, (exchanges, _)) in enumerate(zip(seeds, asked, strict=True)):
        group = said[index * REPLIES : (index + 1) * REPLIES]
        right = [reply for reply in group if exchanges[-1].turn.accepts(reply)]
        wrong = [reply for reply in group if not exchanges[-1].turn.accepts(reply)]
        if right and wrong:
            yield Pair(seed, right[0], wrong[0])


def _replied(exchange: Exchange, reply: str) -> Exchange:
    return Exchange(exchange.parts, replace(exchange.turn, answer=reply))
