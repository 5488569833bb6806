"""First part: the vision tower learns to name what lies under each patch, before the model has to talk.

InternVL3 starts from InternViT, trained beforehand; this takes its place. The labels are read off
the visual tokens (tower, unshuffle and projector). A label per patch teaches far faster than one answer per picture;
the heads stay on as a side loss of later parts.

Shapes: N tiles, S the tile's side, C visual tokens a tile, P patches a visual token, F facts of a patch.
"""

from collections.abc import Iterator

import numpy as np
import torch

from deploy.local.demo_model.drawing.digits import Split
from deploy.local.demo_model.drawing.library import Library, several_tiles_size, single_tile_size
from deploy.local.demo_model.drawing.tiles import compressed, tiled
from deploy.local.demo_model.model import TILING
from deploy.local.demo_model.network.forward import visual_tokens
from deploy.local.demo_model.network.learner import Learner, Losses
from deploy.local.demo_model.recipe.run import Part, warm_up_and_fall

TILES_PER_MICRO_BATCH = 48
SEVERAL_TILES_SHARE = 0.3
JPEG_SHARE = 0.3
WARM_UP = 60


class Tower(Part):
    """Names what lies under each patch."""

    name = "tower"

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def micro_batches(self, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return labeled_tiles(TILES_PER_MICRO_BATCH, seed)

    def loss(self, learner: Learner, micro_batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, Losses]:
        tiles, labels = micro_batch
        loss, right = learner.heads(visual_tokens(learner.model, tiles), labels)
        return loss, {"patches": loss.item(), "patches right": right.item()}

    def rate(self, step: int) -> float:
        """Stays high at the end: the next part goes on from here."""
        return warm_up_and_fall(step, self.steps, warm_up=WARM_UP, falling=0)


def labeled_tiles(count: int, seed: int, split: Split = Split.TRAIN) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of `count` tiles of all kinds of pictures: uint8 (N, S, S, 3) and labels (N, C, P, F)."""
    rng = np.random.default_rng(seed)
    library = Library(split, rng)
    pixels: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    while True:
        several = rng.random() < SEVERAL_TILES_SHARE
        drawing = library.drawing(several_tiles_size(rng) if several else single_tile_size(rng))
        if rng.random() < JPEG_SHARE:
            drawing = compressed(drawing, int(rng.integers(60, 101)))
        tiles = tiled(drawing, TILING)
        pixels.extend(tiles.pixels)
        labels.extend(tiles.labels)
        if len(pixels) >= count:
            yield torch.from_numpy(np.stack(pixels[:count])), torch.from_numpy(np.stack(labels[:count]))
            pixels, labels = pixels[count:], labels[count:]
