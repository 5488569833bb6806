"""Conversations as the tensors a language model learns from.

The prompt is that of InternVL3 (template internvl2_5), tokenized piece by piece as the server does it: every run of
text between two special tokens by itself, and in what a user writes no text is taken for a special token.

Shapes: T tokens, N tiles of a picture, S the tile's side, C visual tokens a tile, P patches a
token, F facts of a patch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from transformers import PreTrainedTokenizerBase

from deploy.local.demo_model.model import SYSTEM_MESSAGE, TOKENS_PER_TILE
from deploy.local.demo_model.talk import tokenizer as special
from deploy.local.demo_model.talk.turns import Turn
from llm_service.positions import VisualSpan, prompt_positions


@dataclass(frozen=True)
class Picture:
    """A picture as the model gets it."""

    tiles: np.ndarray
    """uint8 (N, S, S, 3), the whole picture last."""
    increment: int
    """V2PE ticks per visual token."""
    labels: np.ndarray
    """int64 (N, C, P, F): what lies under the patches."""


UserPart = str | Picture


@dataclass(frozen=True)
class Exchange:
    """A user's message, text and pictures as the server lays them out, and the turn it belongs to."""

    parts: tuple[UserPart, ...]
    turn: Turn


@dataclass(frozen=True)
class Example:
    """One conversation, or one document."""

    token_ids: np.ndarray
    """int64 (T,)"""
    learned: np.ndarray
    """bool (T,): the tokens that have a loss."""
    ticks: np.ndarray
    """int64 (T,): V2PE positions."""
    pictures: tuple[Picture, ...]
    turns: tuple[Turn, ...] = ()
    answer_spans: tuple[tuple[int, int], ...] = ()
    """Where each answer lies, with its <|im_end|>."""

    @property
    def tile_count(self) -> int:
        return sum(len(picture.tiles) for picture in self.pictures)


@dataclass
class Writer:
    """Writes one conversation or document token by token."""

    tokenizer: PreTrainedTokenizerBase
    token_ids: list[int] = field(default_factory=list)
    spans: list[VisualSpan] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    answer_spans: list[tuple[int, int]] = field(default_factory=list)

    def text(self, text: str) -> None:
        """Text in which nothing is special."""
        self.token_ids += _encode(self.tokenizer, text, True)

    def special(self, token: str) -> None:
        self.token_ids.append(_special_id(self.tokenizer, token))

    def start(self, role: str, text: str = "") -> None:
        self.special(special.IM_START)
        self.text(f"{role}\n{text}")

    def end(self) -> None:
        self.special(special.IM_END)
        self.text("\n")

    def user(self, parts: Sequence[UserPart]) -> None:
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
        self.pictures.append(picture)

    def answer(self, text: str) -> None:
        """A reply; `<ref>`, `<box>` and `<tool_call>` in it are tokens."""
        self.start("assistant")
        token_ids = _encode(self.tokenizer, text, False)
        start = len(self.token_ids)
        self.token_ids += token_ids
        self.end()
        self.answer_spans.append((start, start + len(token_ids) + 1))

    def example(self, learned: np.ndarray, turns: tuple[Turn, ...] = ()) -> Example:
        token_ids = np.array(self.token_ids, dtype=np.int64)
        ticks = prompt_positions(len(token_ids), self.spans).numpy()
        return Example(token_ids, learned, ticks, tuple(self.pictures), turns, tuple(self.answer_spans))


def conversation(
    tokenizer: PreTrainedTokenizerBase, exchanges: Sequence[Exchange], system: str = SYSTEM_MESSAGE
) -> Example:
    """A whole conversation; what is learned are the answers, each with its <|im_end|>."""
    writer = Writer(tokenizer)
    writer.start("system", system)
    writer.end()
    for exchange in exchanges:
        writer.user(exchange.parts)
        writer.answer(exchange.turn.answer)
    learned = np.zeros(len(writer.token_ids), dtype=bool)
    for start, end in writer.answer_spans:
        learned[start:end] = True
    return writer.example(learned, tuple(exchange.turn for exchange in exchanges))


def prompt(
    tokenizer: PreTrainedTokenizerBase,
    exchanges: Sequence[Exchange],
    system: str = SYSTEM_MESSAGE,
    *,
    begun: str = "",
) -> Example:
    """A conversation up to where the reply to its last message goes on, after `begun`; nothing is learned."""
    writer = Writer(tokenizer)
    writer.start("system", system)
    writer.end()
    for exchange in exchanges[:-1]:
        writer.user(exchange.parts)
        writer.answer(exchange.turn.answer)
    writer.user(exchanges[-1].parts)
    writer.start("assistant")
    writer.token_ids += _encode(tokenizer, begun, False)
    return writer.example(np.zeros(len(writer.token_ids), dtype=bool), (exchanges[-1].turn,))


def document(tokenizer: PreTrainedTokenizerBase, parts: Sequence[UserPart]) -> Example:
    """Pictures and text in a row, closed by <|endoftext|>; all text is learned."""
    writer = Writer(tokenizer)
    given: list[int] = []
    for part in parts:
        if isinstance(part, str):
            writer.token_ids += _encode(tokenizer, part, False)
        else:
            start = len(writer.token_ids)
            writer.picture(part)
            given += range(start, len(writer.token_ids))
    writer.special(special.END_OF_TEXT)
    learned = np.ones(len(writer.token_ids), dtype=bool)
    learned[[0, *given]] = False
    return writer.example(learned)


@lru_cache(maxsize=20_000)
def _encode(tokenizer: PreTrainedTokenizerBase, text: str, plain: bool) -> list[int]:
    token_ids: list[int] = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=plain)
    return token_ids


@lru_cache(maxsize=100)
def _special_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    token_id = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(token_id, int)
    return token_id
