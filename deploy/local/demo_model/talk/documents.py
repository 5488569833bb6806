"""Documents for pre-training: pictures with text around them, interleaved, and plain text.

InternVL3 learns language and vision in one stage from both, one part of text to three of image-text. Here the text is
what the model needs to know without a picture: small sums, how words are spelled, talk, and calls of tools.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from deploy.local.demo_model.drawing.marks import LETTERS
from deploy.local.demo_model.drawing.printed.words import words
from deploy.local.demo_model.talk.conversations import Talker
from deploy.local.demo_model.talk.examples import Example, Exchange, UserPart, conversation, document
from deploy.local.demo_model.talk.turns import NUMBERS, there_are

TEXT_SHARE = 0.25
CHAT_SHARE = 0.3
"""Of the image-text: conversations as in fine-tuning, with their markup."""
LARGEST_SUM = 18


@dataclass(frozen=True)
class Documents:
    """Makes documents by lot."""

    talker: Talker
    tokenizer: PreTrainedTokenizerBase

    @property
    def rng(self) -> np.random.Generator:
        return self.talker.rng

    def example(self) -> Example:
        lot = self.rng.random()
        if lot < TEXT_SHARE:
            return self.text()
        exchanges, system = self.talker.exchanges()
        if lot < TEXT_SHARE + (1 - TEXT_SHARE) * CHAT_SHARE:
            return conversation(self.tokenizer, exchanges, system)
        return document(self.tokenizer, self._interleaved(exchanges))

    def text(self) -> Example:
        """A few lines of one kind."""
        kinds = (self._sum, self._spelling, self._counting)
        if self.rng.random() < 0.25:
            exchanges, system = self.talker.with_tools()
            return conversation(self.tokenizer, exchanges, system)
        line = kinds[int(self.rng.integers(len(kinds)))]
        return document(self.tokenizer, ["\n".join(line() for _ in range(int(self.rng.integers(3, 9))))])

    def _interleaved(self, exchanges: Sequence[Exchange]) -> list[UserPart]:
        """Each picture followed by what is true of it, with the questions or without."""
        with_questions = self.rng.random() < 0.5
        parts: list[UserPart] = []
        for exchange in exchanges:
            asked = exchange.turn.question
            parts += [part for part in exchange.parts if part != asked]
            text = f"{asked} {exchange.turn.answer}" if with_questions else exchange.turn.answer
            parts.append(f"\n{text}" if parts else text)
        return parts

    def _sum(self) -> str:
        one = int(self.rng.integers(0, 10))
        other = int(self.rng.integers(0, LARGEST_SUM - one + 1)) % 10
        return f"{one} + {other} = {one + other}."

    def _spelling(self) -> str:
        options = words(self.talker.word_split)
        word = options[int(self.rng.integers(len(options)))] if self.rng.random() < 0.5 else self._letters()
        return f'"{word}" has {NUMBERS[len(word)]} letters: {", ".join(word)}.'

    def _letters(self) -> str:
        return "".join(self.rng.choice(LETTERS, int(self.rng.integers(2, 6))))

    def _counting(self) -> str:
        count = int(self.rng.integers(0, 6))
        return f"{there_are(count, 'shape')}: {count}."
