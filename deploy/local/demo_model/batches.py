"""Examples as batches, made in a process of its own so that drawing does not slow training down.

Shapes: B conversations, T tokens (padded), N tiles of all pictures, V pictures, C visual tokens, P patches a token.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import IterableDataset
from transformers import PreTrainedTokenizerBase

from deploy.local.demo_model.curriculum import EASY, FULL, ExampleMaker
from deploy.local.demo_model.digits import Split
from deploy.local.demo_model.examples import IGNORED, Example
from llm_service.positions import as_float
from vision_service.pixels import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class Batch:
    """Tensors of B conversations, padded on the right."""

    token_ids: torch.Tensor
    """int64 (B, T)"""
    targets: torch.Tensor
    """int64 (B, T): IGNORED outside answers."""
    positions: torch.Tensor
    """float32 (B, T): V2PE positions, ready for the rotary embedding."""
    mask: torch.Tensor
    """int64 (B, T): 1 for tokens, 0 for padding."""
    tiles: torch.Tensor
    """uint8 (N, S, S, 3)"""
    whole_tiles: torch.Tensor
    """int64 (V,): which tiles show a whole picture."""
    labels: torch.Tensor
    """int64 (V, C, P, 3): what lies under the patches of those."""

    def to(self, device: torch.device) -> "Batch":
        return Batch(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def collate(examples: Sequence[Example]) -> Batch:
    """Pad and stack; at least one example must have a picture."""
    longest = max(len(example.token_ids) for example in examples)

    def padded(rows: Sequence[np.ndarray], filler: int) -> torch.Tensor:
        return torch.from_numpy(
            np.stack([np.pad(row, (0, longest - len(row)), constant_values=filler) for row in rows])
        )

    pictures = [picture for example in examples for picture in example.pictures]
    return Batch(
        token_ids=padded([example.token_ids for example in examples], 0),
        targets=padded([example.targets for example in examples], IGNORED),
        positions=as_float(padded([example.ticks for example in examples], 0)),
        mask=padded([np.ones_like(example.token_ids) for example in examples], 0),
        tiles=torch.from_numpy(np.concatenate([picture.tiles for picture in pictures])),
        whole_tiles=torch.from_numpy(np.cumsum([len(picture.tiles) for picture in pictures]) - 1),
        labels=torch.from_numpy(np.stack([picture.labels for picture in pictures])),
    )


def pixel_values(tiles: torch.Tensor) -> torch.Tensor:
    """uint8 (N, S, S, 3) to normalized float32 (N, 3, S, S)."""
    mean = torch.from_numpy(IMAGENET_MEAN).to(tiles.device)
    std = torch.from_numpy(IMAGENET_STD).to(tiles.device)
    return ((tiles.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


class Batches(IterableDataset[Batch]):
    """Endless batches of one seed; conversations of like length together, so that little is padded."""

    SORTED_TOGETHER = 4
    """Batches drawn at once and sorted by length."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, batch_size: int, seed: int, hard: bool) -> None:
        self.tokenizer, self.batch_size, self.seed = tokenizer, batch_size, seed
        self.mixture = FULL if hard else EASY

    def __iter__(self) -> Iterator[Batch]:
        rng = np.random.default_rng(self.seed)
        maker = ExampleMaker(self.tokenizer, Split.TRAIN, rng)
        while True:
            examples = [maker.example(self.mixture) for _ in range(self.batch_size * self.SORTED_TOGETHER)]
            examples.sort(key=lambda example: len(example.token_ids) + int(rng.integers(8)))
            for group in rng.permutation(self.SORTED_TOGETHER):
                yield collate(examples[group * self.batch_size : (group + 1) * self.batch_size])
