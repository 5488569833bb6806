"""Question and steps as VisualPRM lays them out: a user's turn for each step, and `+` or `-` as the reply to it.

The first turn shows the picture, the question and the first step; each further turn is the next step (arXiv:2503.10291,
and the model's own code).
"""

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from deploy.local.demo_model.model import SYSTEM_MESSAGE
from deploy.local.demo_model.talk.examples import Example, Exchange, UserPart, Writer

GOOD, BAD = "+", "-"


def judged(
    tokenizer: PreTrainedTokenizerBase, exchange: Exchange, steps: Sequence[str], labels: Sequence[bool]
) -> Example:
    """The conversation in which each step is judged; the judgements are learned.

    To score a solution, give any labels: a judgement is predicted from `+` after all earlier steps, so give True.
    """
    writer = Writer(tokenizer)
    writer.start("system", SYSTEM_MESSAGE)
    writer.end()
    for index, (step, label) in enumerate(zip(steps, labels, strict=True)):
        writer.user(_first(exchange, step) if index == 0 else (step,))
        writer.answer(GOOD if label else BAD)
    learned = np.zeros(len(writer.token_ids), dtype=bool)
    learned[[start for start, _ in writer.answer_spans]] = True
    return writer.example(learned, (exchange.turn,))


def _first(exchange: Exchange, step: str) -> list[UserPart]:
    """Pictures of the question's message on lines of their own, then the question and the first step."""
    visuals = [part for part in exchange.parts if not isinstance(part, str)]
    text = f"### Question:\n{exchange.turn.question}\n\n### Solution Process:\n{step}"
    return [*(part for visual in visuals for part in (visual, "\n")), text]
