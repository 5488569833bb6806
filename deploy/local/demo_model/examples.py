"""Conversations about drawn pictures as the tensors a language model learns from.

The prompt is that of InternVL3 (template internvl2_5), tokenized piece by piece as the server does it: every run of
text between two special tokens by itself. Each picture draws its own V2PE increment.

Shapes: T tokens, N tiles of all pictures, S the tile's side, C visual tokens a tile, P patches a visual token.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from transformers import PreTrainedTokenizerBase

from deploy.local.demo_model import tokenizer as special
from deploy.local.demo_model.conversations import Skill, Turn
from deploy.local.demo_model.model import SYSTEM_MESSAGE, TOKENS_PER_TILE
from llm_service.positions import VisualSpan, prompt_positions

IGNORED = -100
"""Label of a token without loss."""


@dataclass(frozen=True)
class Picture:
    """A picture as the model gets it."""

    tiles: np.ndarray
    """uint8 (n, S, S, 3), the whole picture last."""
    increment: int
    """V2PE ticks per visual token."""
    labels: np.ndarray
    """int64 (C, P, 3): what lies under the patches of the whole picture."""


UserPart = str | Picture

IMAGES_FIRST = "{parts}\n{question}"


@dataclass(frozen=True)
class Example:
    """One conversation."""

    token_ids: np.ndarray
    """int64 (T,)"""
    targets: np.ndarray
    """int64 (T,): the token itself where it is part of an answer, else IGNORED."""
    ticks: np.ndarray
    """int64 (T,): V2PE positions."""
    pictures: tuple[Picture, ...]
    turns: tuple[Turn, ...]
    answer_spans: tuple[tuple[int, int], ...]
    """Where each answer lies, with its <|im_end|>."""

    @property
    def skill(self) -> Skill:
        return self.turns[0].skill


@dataclass
class Writer:
    """Writes one conversation token by token."""

    tokenizer: PreTrainedTokenizerBase
    token_ids: list[int] = field(default_factory=list)
    spans: list[VisualSpan] = field(default_factory=list)
    answer_spans: list[tuple[int, int]] = field(default_factory=list)

    def text(self, text: str) -> None:
        self.token_ids += _encode(self.tokenizer, text)

    def special(self, token: str) -> None:
        self.token_ids.append(_special_id(self.tokenizer, token))

    def start(self, role: str, text: str = "") -> None:
        self.special(special.IM_START)
        self.text(f"{role}\n{text}")

    def end(self) -> None:
        self.special(special.IM_END)
        self.text("\n")

    def user(self, parts: list[UserPart]) -> None:
        """A user's message; text around pictures is tokenized in the runs that the pictures leave."""
        self.special(special.IM_START)
        run = "user\n"
        for part in parts:
            if isinstance(part, str):
                run += part
            else:
                self.text(run)
                self.picture(part)
                run = ""
        if run:
            self.text(run)
        self.end()

    def picture(self, picture: Picture) -> None:
        self.special(special.IMG_START)
        count = TOKENS_PER_TILE * len(picture.tiles)
        self.spans.append(VisualSpan(len(self.token_ids), count, picture.increment))
        self.token_ids += [_special_id(self.tokenizer, special.IMG_CONTEXT)] * count
        self.special(special.IMG_END)

    def answer(self, text: str) -> None:
        self.start("assistant")
        start = len(self.token_ids)
        self.text(text)
        self.end()
        self.answer_spans.append((start, start + len(_encode(self.tokenizer, text)) + 1))


def write(
    tokenizer: PreTrainedTokenizerBase,
    first_parts: list[UserPart],
    turns: tuple[Turn, ...],
    *,
    layout: str = IMAGES_FIRST,
) -> Example:
    """A whole conversation. `first_parts` are the pictures and their labels, which the first message shows.

    `layout` says where the first question stands in relation to them.
    """
    writer = Writer(tokenizer)
    writer.start("system", SYSTEM_MESSAGE)
    writer.end()
    for index, turn in enumerate(turns):
        writer.user(arranged(first_parts, turn.question, layout) if index == 0 and first_parts else [turn.question])
        writer.answer(turn.answer)
    token_ids = np.array(writer.token_ids, dtype=np.int64)
    targets = np.full_like(token_ids, IGNORED)
    for start, end in writer.answer_spans:
        targets[start:end] = token_ids[start:end]
    pictures = tuple(part for part in first_parts if isinstance(part, Picture))
    ticks = prompt_positions(len(token_ids), writer.spans).numpy()
    return Example(token_ids, targets, ticks, pictures, turns, tuple(writer.answer_spans))


def arranged(parts: list[UserPart], question: str, layout: str = IMAGES_FIRST) -> list[UserPart]:
    """Pictures and question in the order of `layout`."""
    before, after = layout.replace("{question}", question).split("{parts}")
    return [text for text in [before, *parts, after] if not isinstance(text, str) or text]


@lru_cache(maxsize=20_000)
def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    token_ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return token_ids


@lru_cache(maxsize=100)
def _special_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    token_id = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(token_id, int)
    return token_id
