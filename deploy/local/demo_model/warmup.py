"""First stage: the vision tower learns to name what lies under each patch, before it has to talk.

Linear heads read name, colour and centre of things off the visual tokens (tower, unshuffle and projector). A label
per patch teaches far faster than one answer per picture; the heads stay on as a side loss of the second stage and
are thrown away at export.

Shapes: N tiles, C visual tokens a tile (16), P patches a visual token (4).
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import IterableDataset

from deploy.local.demo_model.digits import Split
from deploy.local.demo_model.model import PATCHES, SINGLE_TILE, TEXT_WIDTH, TILE_SIZE
from deploy.local.demo_model.pictures import draw, patch_labels
from deploy.local.demo_model.scenes import COLORS, NAMES, Scene, SceneMaker
from vision_service.tiles import cut

NAME_CLASSES = 1 + len(NAMES)
COLOR_CLASSES = 1 + len(COLORS)
PATCHES_PER_TOKEN = 4


def token_labels(scene: Scene) -> np.ndarray:
    """int64 (C, P, 3): name, colour and centre labels in the order in which the unshuffle joins patches."""
    labels = patch_labels(scene, PATCHES)
    half = PATCHES // 2
    return labels.reshape(half, 2, half, 2, 3).transpose(0, 2, 1, 3, 4).reshape(half * half, PATCHES_PER_TOKEN, 3)


class Heads(nn.Module):
    """Names what lies under the patches of each visual token."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(TEXT_WIDTH)
        self.out = nn.Linear(TEXT_WIDTH, PATCHES_PER_TOKEN * (NAME_CLASSES + COLOR_CLASSES + 1))

    def forward(self, tokens: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, C, D) and (N, C, P, 3) to the loss, and the share of covered patches named rightly."""
        scores = self.out(self.norm(tokens)).unflatten(-1, (PATCHES_PER_TOKEN, -1))
        name, color, center = scores.split([NAME_CLASSES, COLOR_CLASSES, 1], dim=-1)
        covered = labels[..., 0] > 0
        weight = torch.where(covered, 1.0, 0.15)
        loss = (
            _weighted(functional.cross_entropy(name.flatten(0, 2), labels[..., 0].flatten(), reduction="none"), weight)
            + 0.5
            * _weighted(
                functional.cross_entropy(color.flatten(0, 2), labels[..., 1].flatten(), reduction="none"), weight
            )
            + _weighted(
                functional.binary_cross_entropy_with_logits(
                    center.flatten(), labels[..., 2].flatten().float(), reduction="none"
                ),
                torch.ones_like(weight),
            )
        )
        right = (name.argmax(-1) == labels[..., 0])[covered].float().mean()
        return loss, right


def _weighted(losses: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (losses * weight.flatten()).sum() / weight.sum()


class LabeledTiles(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Endless batches of single-tile pictures: uint8 (N, S, S, 3) and labels (N, C, P, 3)."""

    def __init__(self, batch_size: int, seed: int, split: Split = Split.TRAIN) -> None:
        self.batch_size, self.seed, self.split = batch_size, seed, split

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        maker = SceneMaker(self.split, np.random.default_rng(self.seed))
        while True:
            scenes = [random_scene(maker, (TILE_SIZE, TILE_SIZE)) for _ in range(self.batch_size)]
            tiles = np.concatenate([cut(draw(scene), SINGLE_TILE) for scene in scenes])
            yield torch.from_numpy(tiles), torch.from_numpy(np.stack([token_labels(scene) for scene in scenes]))


def random_scene(maker: SceneMaker, size: tuple[int, int]) -> Scene:
    """Half digits, half shapes of all arrangements."""
    lot = maker.rng.random()
    if lot < 0.45:
        return maker.digit(size)
    if lot < 0.62:
        return maker.same(1, size)
    if lot < 0.75:
        return maker.same(int(maker.rng.integers(2, 6)), size)
    if lot < 0.87:
        return maker.groups(size)
    return maker.different(int(maker.rng.integers(2, 5)), size)
