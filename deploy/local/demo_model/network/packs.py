"""Conversations packed one after the other, without padding, as InternVL2.5 packs its data (section 3.3).

A pack has a budget of tokens and one of tiles. The layers see one long row of tokens; only attention looks at each
conversation by itself.

Shapes: T tokens of a pack, B conversations, L tokens of the longest, N tiles, C visual tokens a tile.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from deploy.local.demo_model.talk.examples import Example
from llm_service.positions import as_float

TOKENS = 3072
TILES = 56
BUFFERED = 96
"""Examples among which a pack is chosen: those of like length, so that attention is padded little."""


@dataclass(frozen=True)
class Pack:
    """B conversations, one after the other."""

    token_ids: torch.Tensor
    """int64 (T,)"""
    positions: torch.Tensor
    """float32 (T,): V2PE positions."""
    weights: torch.Tensor
    """float32 (T,): weight of the loss with which each token is predicted; 0 where it is given."""
    rows: torch.Tensor
    """int64 (B, L): which token stands where when each conversation has a row; rows are filled up with token 0."""
    places: torch.Tensor
    """int64 (T,): the place of each token in the flattened rows."""
    tiles: torch.Tensor
    """uint8 (N, S, S, 3)"""
    labels: torch.Tensor
    """int64 (N, C, P, F)"""
    segments: tuple[tuple[int, int], ...]
    """Where each conversation lies."""

    @property
    def predicted(self) -> torch.Tensor:
        """Indices of the tokens with a loss."""
        return self.weights.nonzero()[:, 0]


def packed(examples: Sequence[Example]) -> Pack:
    """One pack of all the examples, whatever the budget."""
    lengths = [len(example.token_ids) for example in examples]
    ends = np.cumsum(lengths)
    starts = ends - lengths
    longest = max(lengths)
    rows = np.zeros((len(examples), longest), dtype=np.int64)
    for row, start, length in zip(rows, starts, lengths, strict=True):
        row[:length] = np.arange(start, start + length)
    places = np.concatenate([index * longest + np.arange(length) for index, length in enumerate(lengths)])
    pictures = [picture for example in examples for picture in example.pictures]
    return Pack(
        token_ids=torch.from_numpy(np.concatenate([example.token_ids for example in examples])),
        positions=as_float(torch.from_numpy(np.concatenate([example.ticks for example in examples]))),
        weights=torch.from_numpy(np.concatenate([square_averaged(example) for example in examples])),
        rows=torch.from_numpy(rows),
        places=torch.from_numpy(places),
        tiles=_joined([picture.tiles for picture in pictures]),
        labels=_joined([picture.labels for picture in pictures]),
        segments=tuple(zip(starts.tolist(), ends.tolist(), strict=True)),
    )


def _joined(arrays: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(arrays)) if arrays else torch.empty(0)


def square_averaged(example: Example) -> np.ndarray:
    """Loss weights float32 (T,): 1 / sqrt(length of what is learned), so that neither long nor short replies rule."""
    learned = example.learned.copy()
    learned[0] = False
    return learned.astype(np.float32) / np.float32(max(1, learned.sum()) ** 0.5)


def packs(examples: Iterable[Example], rng: np.random.Generator, *, tokens: int = TOKENS) -> Iterator[Pack]:
    """Endless packs from endless examples."""
    source = iter(examples)
    buffer: list[Example] = []
    while True:
        buffer += [next(source) for _ in range(BUFFERED - len(buffer))]
        buffer.sort(key=lambda example: len(example.token_ids))
        yield packed(_taken(buffer, int(rng.integers(len(buffer))), tokens))


def _taken(buffer: list[Example], start: int, tokens: int) -> list[Example]:
    """Take examples out of the buffer, from `start` on and around its end, as long as the budgets allow."""
    chosen: list[int] = []
    token_count = tile_count = 0
    for index in [*range(start, len(buffer)), *range(start - 1, -1, -1)]:
        example = buffer[index]
        token_count += len(example.token_ids)
        tile_count += example.tile_count
        if chosen and (token_count > tokens or tile_count > TILES):
            break
        chosen.append(index)
    taken = [buffer[index] for index in chosen]
    for index in sorted(chosen, reverse=True):
        del buffer[index]
    if not any(example.pictures for example in taken):
        with_picture = next((index for index, example in enumerate(buffer) if example.pictures), None)
        if with_picture is not None:
            taken.append(buffer.pop(with_picture))
    return taken
