"""Grids and pixels equal the reference's, byte for byte."""

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.support import golden
from tests.support.pictures import synthetic
from vision_service.pixels import normalize
from vision_service.tiles import TilingOptions, choose_grid, cut, tile_count

GOLDEN = golden.load("preprocess")


def sha256(data: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(data).tobytes()).hexdigest()


def options_of(case: Any) -> TilingOptions:
    return TilingOptions(case["max_num"], case["min_num"], case["use_thumbnail"])


@pytest.mark.parametrize("case", GOLDEN["grids"], ids=lambda case: f"{case['width']}x{case['height']}")
def test_grids_equal_the_reference(case: Any) -> None:
    for result in case["results"]:
        options = options_of({**result, "min_num": case["min_num"]})
        grid = choose_grid(case["width"], case["height"], options)
        assert (grid.cols, grid.rows, tile_count(grid, options)) == (result["cols"], result["rows"], result["tiles"])


@pytest.mark.parametrize("case", GOLDEN["grids_min_num"], ids=lambda case: f"{case['width']}x{case['height']}")
def test_grids_of_several_tiles_at_least_equal_the_reference(case: Any) -> None:
    grid = choose_grid(case["width"], case["height"], options_of(case))
    assert (grid.cols, grid.rows) == (case["cols"], case["rows"])


@pytest.mark.parametrize("case", GOLDEN["pixels"], ids=lambda case: f"{case['width']}x{case['height']}")
def test_pixels_equal_the_reference(case: Any) -> None:
    picture = synthetic(case["width"], case["height"], case["seed"])
    assert sha256(picture) == case["source_sha256"]
    tiles = cut(Image.fromarray(picture), options_of(case))
    assert [sha256(tile) for tile in tiles] == case["tile_u8_sha256"]
    pixels = normalize(tiles)
    values = case["pixel_values"]
    assert sha256(pixels.numpy()) == values["sha256"]
    assert sha256(pixels.to(torch.bfloat16).view(torch.int16).numpy()) == values["bfloat16_sha256"]


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 40))
def test_a_grid_keeps_to_its_limits(width: int, height: int, most: int) -> None:
    grid = choose_grid(width, height, TilingOptions(most))
    assert 1 <= grid.area <= most


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0)])
def test_an_empty_image_has_no_grid(width: int, height: int) -> None:
    with pytest.raises(ValueError, match="no grid"):
        choose_grid(width, height, TilingOptions(12))
