"""Where the things of a picture lie, and what lies under each patch of a tile.

Knows nothing of how things are drawn. Lengths are in pixels of the picture, boxes are (x0, y0, x1, y1).

Shapes: P patches along a tile's side, F facts of a patch (`LABEL_COUNT`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from PIL import Image

from deploy.local.demo_model.drawing.scenes import COLORS, DIGITS, SHAPES

Box = tuple[float, float, float, float]

LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
BAR = "bar"
NAMES = (*SHAPES, *DIGITS, *LETTERS, BAR)
"""All that a patch can be part of."""

LABEL_COUNT = 7
"""Name (0: paper, else 1 + index in NAMES), colour (likewise), 1 at a centre, box in thousandths of the tile."""

_NAME_CODES = {name: 1 + index for index, name in enumerate(NAMES)}
_COLOR_CODES = {color: 1 + index for index, color in enumerate(COLORS)}
_INNER = 0.42
"""Share of its side, from the centre, in which a thing surely covers a patch."""


@dataclass(frozen=True)
class Mark:
    """One thing in a picture: a shape, a digit, a letter, a bar."""

    name: str
    """One of NAMES."""
    color: str
    box: Box
    whole: Box | None = None
    """Box of what the thing is a part of: a letter's word or button. None: the thing stands for itself."""


@dataclass(frozen=True)
class Drawing:
    """A picture, and where its things are."""

    image: Image.Image
    marks: tuple[Mark, ...] = ()


def union(boxes: Sequence[Box]) -> Box:
    """The smallest box around all."""
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def patch_labels(marks: Sequence[Mark], region: Box, patches: int) -> np.ndarray:
    """Facts of the patches of the tile that shows `region` of the picture: int64 (P, P, F)."""
    labels = np.zeros((patches, patches, LABEL_COUNT), dtype=np.int64)
    left, top, right, bottom = region
    wide, high = patches / (right - left), patches / (bottom - top)
    for mark in marks:
        x0, y0, x1, y1 = mark.box
        x, y = ((x0 + x1) / 2 - left) * wide, ((y0 + y1) / 2 - top) * high
        reach_x, reach_y = _INNER * (x1 - x0) * wide, _INNER * (y1 - y0) * high
        first_col, last_col = max(0, round(x - reach_x)), min(patches, round(x + reach_x))
        first_row, last_row = max(0, round(y - reach_y)), min(patches, round(y + reach_y))
        facts = _facts(mark, region)
        labels[first_row:last_row, first_col:last_col] = facts
        if 0 <= x < patches and 0 <= y < patches:
            facts[2] = 1
            labels[int(y), int(x)] = facts
    return labels


def _facts(mark: Mark, region: Box) -> list[int]:
    left, top, right, bottom = region
    x0, y0, x1, y1 = mark.whole or mark.box
    scale_x, scale_y = 1000 / (right - left), 1000 / (bottom - top)
    box = ((x0 - left) * scale_x, (y0 - top) * scale_y, (x1 - left) * scale_x, (y1 - top) * scale_y)
    return list(
        chain((_NAME_CODES[mark.name], _COLOR_CODES[mark.color], 0), (round(min(max(side, 0), 1000)) for side in box))
    )
