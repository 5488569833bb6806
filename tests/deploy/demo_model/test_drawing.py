"""The demo model's pictures: a function of the seed, held-out material apart, each thing where it is said to be."""

import numpy as np
import pytest
from PIL import Image

from deploy.local.demo_model.drawing import charts, digits, shapes, windows
from deploy.local.demo_model.drawing.charts import ChartMaker
from deploy.local.demo_model.drawing.digits import Split
from deploy.local.demo_model.drawing.library import Library
from deploy.local.demo_model.drawing.marks import BAR, NAMES, Drawing, Mark, patch_labels
from deploy.local.demo_model.drawing.photographs import photographs
from deploy.local.demo_model.drawing.printed import sheets
from deploy.local.demo_model.drawing.printed.fonts import HELD_OUT_FONTS, TRAINING_FONTS, font
from deploy.local.demo_model.drawing.printed.sheets import SheetMaker
from deploy.local.demo_model.drawing.printed.words import words
from deploy.local.demo_model.drawing.scenes import SceneMaker
from deploy.local.demo_model.drawing.tiles import tiled
from deploy.local.demo_model.drawing.videos import Change, VideoMaker
from deploy.local.demo_model.drawing.windows import WindowMaker
from deploy.local.demo_model.model import PATCHES, TILING

SIZE = (112, 112)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pixels_of(seed: int) -> bytes:
    library = Library(Split.TRAIN, rng(seed))
    return b"".join(library.drawing(SIZE).image.tobytes() for _ in range(12))


def test_drawing_is_a_function_of_the_seed() -> None:
    assert pixels_of(5) == pixels_of(5)
    assert pixels_of(5) != pixels_of(6)


def test_no_digit_is_both_trained_on_and_tested_on() -> None:
    trained, held_out = set(digits.indices(Split.TRAIN)), set(digits.indices(Split.HELD_OUT))
    assert not trained & held_out
    assert len(trained | held_out) == len(digits.values()) == 1797
    drawn = {SceneMaker(Split.TRAIN, rng(seed)).digit(SIZE).things[0].drawing for seed in range(50)}
    assert drawn <= trained


def test_no_word_font_or_photograph_is_both_trained_on_and_tested_on() -> None:
    assert not set(words(Split.TRAIN)) & set(words(Split.HELD_OUT))
    assert not set(TRAINING_FONTS) & set(HELD_OUT_FONTS)
    trained = {image.tobytes() for image in photographs(Split.TRAIN)}
    assert not trained & {image.tobytes() for image in photographs(Split.HELD_OUT)}


@pytest.mark.parametrize("name", [*TRAINING_FONTS, *HELD_OUT_FONTS])
def test_each_font_has_all_capitals_and_digits(name: str) -> None:
    masks = [font(name, 30).getmask(letter) for letter in NAMES[5:41]]
    assert all(mask.getbbox() for mask in masks)
    assert len({bytes(mask) for mask in masks}) == 36


def ink_box(image: Image.Image, paper: tuple[int, int, int]) -> tuple[int, int, int, int]:
    difference = np.abs(np.asarray(image, dtype=int) - paper).max(axis=2) > 60
    rows, cols = np.flatnonzero(difference.any(1)), np.flatnonzero(difference.any(0))
    return int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1


@pytest.mark.parametrize("seed", range(8))
def test_a_shape_lies_where_its_mark_says(seed: int) -> None:
    scene = SceneMaker(Split.TRAIN, rng(seed)).same(1, SIZE, color="red" if seed % 2 else "blue")
    drawing = shapes.drawing(scene)
    assert drawing.marks[0].box == pytest.approx(ink_box(drawing.image, scene.paper), abs=2.5)


@pytest.mark.parametrize("seed", range(8))
def test_a_digit_lies_where_its_mark_says(seed: int) -> None:
    scene = SceneMaker(Split.TRAIN, rng(seed)).digit(SIZE, color="black")
    drawing = shapes.drawing(scene)
    assert drawing.marks[0].box == pytest.approx(ink_box(drawing.image, scene.paper), abs=5)


@pytest.mark.parametrize("seed", range(8))
def test_a_line_lies_where_its_letters_marks_say(seed: int) -> None:
    sheet = SheetMaker(Split.TRAIN, rng(seed)).sheet(SIZE, lines=1)
    drawing = sheets.drawing(sheet)
    left, top, right, bottom = drawing.marks[0].whole or (0, 0, 0, 0)
    inked = ink_box(drawing.image, sheet.paper)
    assert [mark.name for mark in drawing.marks] == list(sheet.lines[0].text)
    assert inked[0] >= left - 3
    assert inked[1] >= top - 3
    assert inked[2] <= right + 5
    assert inked[3] <= bottom + 6  # a J or a Q may hang below the line


def test_a_bar_is_as_high_as_its_value() -> None:
    chart = ChartMaker(Split.TRAIN, rng(3)).chart(SIZE)
    heights = [bottom - top for _, top, _, bottom in map(chart.box, range(len(chart.bars)))]
    assert heights == pytest.approx([heights[0] * bar.value / chart.bars[0].value for bar in chart.bars])
    named = [mark.name for mark in charts.drawing(chart).marks]
    assert [int(name) for name in named if name != BAR] == [bar.value for bar in chart.bars]


@pytest.mark.parametrize("seed", range(6))
def test_buttons_are_inside_and_apart(seed: int) -> None:
    window = WindowMaker(Split.TRAIN, rng(seed)).window((160, 140))
    boxes = [button.box for button in window.buttons]
    assert all(0 <= left < right <= 160 and 0 <= top < bottom <= 140 for left, top, right, bottom in boxes)
    for index, one in enumerate(boxes):
        for other in boxes[:index]:
            assert one[0] >= other[2] or other[0] >= one[2] or one[1] >= other[3] or other[1] >= one[3]
    assert windows.drawing(window).image.size == (160, 140)


def test_patch_labels_name_what_lies_under_a_patch() -> None:
    labels = patch_labels([Mark("star", "red", (56, 0, 84, 28))], (0, 0, 112, 112), PATCHES)
    named = np.argwhere(labels[..., 0] == 1 + NAMES.index("star"))
    assert {tuple(place) for place in named.tolist()} == {(0, 4), (0, 5), (1, 4), (1, 5)}
    assert labels[1, 5].tolist() == [1 + NAMES.index("star"), 1, 1, 500, 0, 750, 250]


def test_tiles_of_a_grid_have_labels_of_their_own() -> None:
    drawing = Drawing(Image.new("RGB", (224, 112)), (Mark("cross", "blue", (120, 8, 216, 104)),))
    tiles = tiled(drawing, TILING)
    covered = (tiles.labels[..., 0] > 0).reshape(3, -1).sum(1)
    assert tiles.pixels.shape == (3, 112, 112, 3)
    assert covered[0] == 0
    assert covered[1] > covered[2] > 0


def test_something_happens_in_a_video_unless_it_says_so() -> None:
    maker = VideoMaker(Split.TRAIN, rng(2))
    for _ in range(40):
        video = maker.video()
        same = video.frames[0].things == video.frames[-1].things
        assert same == (video.change is Change.NOTHING)
