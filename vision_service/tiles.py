"""Image to tiles: the grid that fits its aspect ratio, and the cut.

Knows nothing of where an image comes from or what a tile becomes. Equal, byte for byte, to `dynamic_preprocess`
of OpenGVLab/InternVL, on every Pillow version.

Shapes: N tiles (thumbnail last), S the tile's side in pixels, H and W the image's sides.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class TilingOptions:
    """How an image is cut. Part of the embedding key: two options never share an embedding."""

    max_tile_count: int
    """Most tiles in the grid; the thumbnail is not counted."""
    min_tile_count: int = 1
    """Fewest tiles in the grid."""
    use_thumbnail: bool = True
    """Whether a grid of more than one tile is followed by the whole image as one more tile."""
    tile_size: int = 448
    """Side of a tile in pixels."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_tile_count <= self.max_tile_count:
            raise ValueError(f"tile counts must be 1 <= min <= max, got {self.min_tile_count}..{self.max_tile_count}")
        if self.tile_size < 1:
            raise ValueError(f"tile_size must be positive, got {self.tile_size}")


@dataclass(frozen=True)
class Grid:
    """`cols` tiles across, `rows` down."""

    cols: int
    rows: int

    @property
    def area(self) -> int:
        return self.cols * self.rows


def choose_grid(width: int, height: int, options: TilingOptions) -> Grid:
    """The grid whose aspect ratio is nearest to the image's; of equally near ones, the biggest the image half fills.

    Raises ValueError for an empty image.
    """
    if width < 1 or height < 1:
        raise ValueError(f"an image of {width}x{height} pixels has no grid")
    aspect = width / height
    best, best_difference = Grid(1, 1), float("inf")
    for grid in _candidates(options):
        difference = abs(aspect - grid.cols / grid.rows)
        half_filled = width * height > 0.5 * options.tile_size**2 * grid.area
        if difference < best_difference or (difference == best_difference and half_filled):
            best, best_difference = grid, difference
    return best


def tile_count(grid: Grid, options: TilingOptions) -> int:
    """Tiles that `cut` makes of `grid`, thumbnail included."""
    return grid.area + (1 if options.use_thumbnail and grid.area > 1 else 0)


def most_tiles(options: TilingOptions) -> int:
    """Tiles of the largest grid, thumbnail included."""
    return options.max_tile_count + (1 if options.use_thumbnail and options.max_tile_count > 1 else 0)


def cut(image: Image.Image, options: TilingOptions) -> np.ndarray:
    """Cut an RGB image into tiles.

    Returns uint8 (N, S, S, 3), contiguous: the grid row by row, then the thumbnail if there is one.
    """
    size = options.tile_size
    grid = choose_grid(image.width, image.height, options)
    resized = np.asarray(_resize(image, size * grid.cols, size * grid.rows))
    by_row_and_col = resized.reshape(grid.rows, size, grid.cols, size, 3).transpose(0, 2, 1, 3, 4)
    tiles = by_row_and_col.reshape(grid.area, size, size, 3)
    if tile_count(grid, options) == grid.area:
        return np.ascontiguousarray(tiles)
    thumbnail = np.asarray(_resize(image, size, size))
    return np.ascontiguousarray(np.concatenate([tiles, thumbnail[None]]))


def _candidates(options: TilingOptions) -> Iterator[Grid]:
    """All grids within the tile limits, by ascending area."""
    most = options.max_tile_count
    for area in range(options.min_tile_count, most + 1):
        for cols in range(1, area + 1):
            if area % cols == 0:
                yield Grid(cols, area // cols)


def _resize(image: Image.Image, width: int, height: int) -> Image.Image:
    """Antialiased bicubic, horizontal pass first.

    Two calls, because Pillow 13 picks the order of the passes by cost, and the order changes the rounding.
    """
    bicubic = Image.Resampling.BICUBIC
    return image.resize((width, image.height), bicubic).resize((width, height), bicubic)
