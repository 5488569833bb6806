"""Regions are found however the text is cut, in the image that is meant, in its pixels."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.grounding import Images, ImageSize, Regions
from internvl.chat.v1 import chat_pb2

ONE = Images([ImageSize(640, 480)], range(1))
TEXT = "I see <ref>a red car</ref><box>[[100, 200, 300, 400], [0, 0, 1000, 1000]]</box> and <box>[[500, 500]]</box>."


def found(text: str, images: Images = ONE) -> list[chat_pb2.Region]:
    return Regions(images).add(text)


def box(box: chat_pb2.Box) -> tuple[float, ...]:
    return box.x1, box.y1, box.x2, box.y2


def test_phrases_boxes_and_points() -> None:
    first, second, third = found(TEXT)
    assert [region.phrase for region in (first, second, third)] == ["a red car", "a red car", ""]
    assert box(first.thousandths) == (100, 200, 300, 400)
    assert box(first.pixels) == pytest.approx((64, 96, 192, 192))
    assert (first.point.x, first.point.y) == pytest.approx((128, 144))
    assert box(second.pixels) == (0, 0, 640, 480)
    assert box(third.pixels) == pytest.approx((320, 240, 320, 240))
    assert first.image_index == 0
    assert first.HasField("image_index")


@given(st.sets(st.integers(1, len(TEXT) - 1)))
def test_however_it_is_cut(cuts: set[int]) -> None:
    regions = Regions(ONE)
    places = [0, *sorted(cuts), len(TEXT)]
    assert [each for start, end in pairwise(places) for each in regions.add(TEXT[start:end])] == found(TEXT)


@pytest.mark.parametrize(
    "inside",
    [
        "",
        "1, 2, 3, 4",
        "[1, 2, 3]",
        "[[1, 2, 3, 1001]]",
        "[[-1, 2, 3, 4]]",
        '["a"]',
        "[[1, 2, 3, NaN]]",
        "[" * 9999,
        "{}",
    ],
)
def test_what_is_no_region(inside: str) -> None:
    assert found(f"<box>{inside}</box>") == []


def test_corners_in_any_order() -> None:
    (region,) = found("<box>[[300, 400, 100, 200]]</box>")
    assert box(region.thousandths) == (100, 200, 300, 400)


@pytest.mark.parametrize(
    ("text", "images", "index"),
    [
        ("{}", Images([ImageSize(1, 1)] * 3, range(2, 3)), 2),
        ("In Image-2: {}", Images([ImageSize(1, 1)] * 3, range(3)), 1),
        ("Image-1 no, Image-3: {}", Images([ImageSize(1, 1)] * 3, range(3)), 2),
        ("Image-7: {}", Images([ImageSize(1, 1)] * 3, range(3)), None),
        ("{}", Images([ImageSize(1, 1)] * 3, range(1, 3)), None),
        ("{}", Images([], range(0)), None),
    ],
)
def test_which_image_is_meant(text: str, images: Images, index: int | None) -> None:
    (region,) = found(text.format("<box>[[1, 2, 3, 4]]</box>"), images)
    assert (region.image_index if region.HasField("image_index") else None) == index
    assert region.HasField("pixels") == (index is not None)


def test_without_a_size_there_are_no_pixels() -> None:
    (region,) = found("<box>[[1, 2, 3, 4]]</box>", Images([ImageSize(0, 0)], range(1)))
    assert region.image_index == 0
    assert not region.HasField("pixels")


def test_a_long_text_is_not_kept() -> None:
    regions = Regions(ONE)
    for _ in range(50):
        assert regions.add("x" * 1000) == []
    assert len(regions.add("<box>[[1, 2, 3, 4]]</box>")) == 1
