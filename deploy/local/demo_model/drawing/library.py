"""One drawing of any kind, by lot, and the sizes of pictures."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deploy.local.demo_model.drawing import charts, shapes, windows
from deploy.local.demo_model.drawing.charts import ChartMaker
from deploy.local.demo_model.drawing.digits import Split
from deploy.local.demo_model.drawing.marks import Drawing
from deploy.local.demo_model.drawing.photographs import PhotographMaker
from deploy.local.demo_model.drawing.printed import sheets
from deploy.local.demo_model.drawing.printed.sheets import SheetMaker
from deploy.local.demo_model.drawing.scenes import Scene, SceneMaker
from deploy.local.demo_model.drawing.windows import WindowMaker
from deploy.local.demo_model.model import TILE_SIZE

Size = tuple[int, int]

WIDE = ((2, 1), (1, 2), (2, 1), (1, 2), (3, 1), (1, 3))


@dataclass(frozen=True)
class Library:
    """Draws pictures of all kinds by lot."""

    split: Split
    rng: np.random.Generator

    def drawing(self, size: Size) -> Drawing:
        kinds: list[tuple[float, Callable[[], Drawing]]] = [
            (0.24, lambda: shapes.drawing(SceneMaker(self.split, self.rng).digit(size))),
            (0.30, lambda: shapes.drawing(random_shapes(SceneMaker(self.split, self.rng), size))),
            (0.26, lambda: sheets.drawing(SheetMaker(self.split, self.rng).sheet(size))),
            (0.09, lambda: charts.drawing(ChartMaker(self.split, self.rng).chart(size))),
            (0.09, lambda: windows.drawing(WindowMaker(self.split, self.rng).window(size))),
            (0.02, lambda: PhotographMaker(self.split, self.rng).drawing(size)),
        ]
        return kinds[int(self.rng.choice(len(kinds), p=[share for share, _ in kinds]))][1]()


def random_shapes(maker: SceneMaker, size: Size) -> Scene:
    """Shapes in all arrangements: one, several alike, two kinds, all different."""
    lot = maker.rng.random()
    if lot < 0.3:
        return maker.same(1, size)
    if lot < 0.54:
        return maker.same(int(maker.rng.integers(2, 6)), size)
    if lot < 0.78:
        return maker.groups(size)
    return maker.different(int(maker.rng.integers(2, 5)), size)


def single_tile_size(rng: np.random.Generator) -> Size:
    """A size that is cut into one tile."""
    if rng.random() < 0.6:
        return TILE_SIZE, TILE_SIZE
    width = int(rng.integers(90, 155))
    return width, int(np.clip(round(width * rng.uniform(0.75, 1.3)), 90, 155))


def several_tiles_size(rng: np.random.Generator) -> Size:
    """A size that is cut into three to five tiles, thumbnail included."""
    if rng.random() < 0.5:
        width = int(rng.integers(162, 290))
        return width, int(max(162, round(width * rng.uniform(0.75, 1.3))))
    cols, rows = WIDE[int(rng.integers(len(WIDE)))]
    side = rng.uniform(80, 160)
    return round(cols * side * rng.uniform(0.9, 1.1)), round(rows * side)
