"""Pictures as the vision service cuts them, with the facts of every patch.

Shapes: N tiles, S the tile's side, C visual tokens a tile, P patches a visual token, F facts of a patch.
"""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from deploy.local.demo_model.drawing.marks import LABEL_COUNT, Box, Drawing, patch_labels
from deploy.local.demo_model.model import PATCHES
from vision_service.tiles import TilingOptions, choose_grid, cut

PATCHES_PER_TOKEN = 4


@dataclass(frozen=True)
class Tiles:
    """A picture as the model gets it."""

    pixels: np.ndarray
    """uint8 (N, S, S, 3), the whole picture last."""
    labels: np.ndarray
    """int64 (N, C, P, F)"""


def tiled(drawing: Drawing, options: TilingOptions) -> Tiles:
    """Cut a picture; every tile with its own labels."""
    image = drawing.image
    pixels = cut(image, options)
    grid = choose_grid(image.width, image.height, options)
    wide, high = image.width / grid.cols, image.height / grid.rows
    regions: list[Box] = [
        (col * wide, row * high, (col + 1) * wide, (row + 1) * high)
        for row in range(grid.rows)
        for col in range(grid.cols)
    ]
    regions += [(0, 0, image.width, image.height)] * (len(pixels) - len(regions))
    labels = np.stack([patch_labels(drawing.marks, region, PATCHES) for region in regions])
    return Tiles(pixels, _by_token(labels))


def compressed(drawing: Drawing, quality: int) -> Drawing:
    """The picture after JPEG compression."""
    with BytesIO() as file:
        drawing.image.save(file, "JPEG", quality=quality)
        file.seek(0)
        return Drawing(Image.open(file).convert("RGB"), drawing.marks)


def _by_token(labels: np.ndarray) -> np.ndarray:
    """(N, patches, patches, F) to (N, C, P, F), patches in the order in which the unshuffle joins them."""
    half = PATCHES // 2
    squares = labels.reshape(-1, half, 2, half, 2, LABEL_COUNT).transpose(0, 1, 3, 2, 4, 5)
    return squares.reshape(-1, half * half, PATCHES_PER_TOKEN, LABEL_COUNT)
