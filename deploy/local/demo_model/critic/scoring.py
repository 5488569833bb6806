"""The score of a solution, and the best of several.

As VisualPRM scores (its model's own code): the share of `+` among `+` and `-` where each step is judged, taken with `+`
after the steps before; a solution's score is the mean over its steps.
"""

from collections import Counter
from collections.abc import Sequence

import torch
from transformers import InternVLForConditionalGeneration, PreTrainedTokenizerBase

from deploy.local.demo_model.critic.layout import BAD, GOOD, judged
from deploy.local.demo_model.network.forward import predictions, visual_tokens
from deploy.local.demo_model.network.packs import packed
from deploy.local.demo_model.talk.examples import Exchange
from deploy.local.demo_model.talk.turns import STEP_END


@torch.no_grad()
def scores(
    critic: InternVLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    exchange: Exchange,
    solutions: Sequence[str],
) -> list[float]:
    """The score of each solution of one question, between 0 and 1."""
    steps = [text.split(STEP_END) for text in solutions]
    pack = packed([judged(tokenizer, exchange, parts, [True] * len(parts)) for parts in steps])
    verdicts = tokenizer.convert_tokens_to_ids([GOOD, BAD])
    judgements = predictions(critic, pack, visual_tokens(critic, pack.tiles))[:, verdicts].softmax(-1)[:, 0]
    return [part.mean().item() for part in torch.split(judgements, [len(parts) for parts in steps])]


def best(solutions: Sequence[str], scored: Sequence[float]) -> str:
    """The solution with the highest score; the first of several."""
    return solutions[max(range(len(solutions)), key=lambda index: scored[index])]


def majority(solutions: Sequence[str]) -> str:
    """A solution whose last step most solutions have; the first of several."""
    results = Counter(text.split(STEP_END)[-1] for text in solutions)
    return max(solutions, key=lambda text: results[text.split(STEP_END)[-1]])
