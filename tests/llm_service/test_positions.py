"""Positions equal the reference's, and hold the properties V2PE is about."""

import hashlib
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm_service.positions import (
    INCREMENTS,
    TICKS,
    VisualSpan,
    as_float,
    increment_ticks,
    next_position,
    prompt_positions,
)
from tests.support import golden

V2PE = golden.load("v2pe")
TOKENS_PER_TILE = 256


def _spans(layout: list[tuple[str, int]], increment: int) -> tuple[int, list[VisualSpan]]:
    """Token count and spans of a golden layout; padding is not a token here."""
    count, spans = 0, []
    for kind, size in layout:
        if kind == "image":
            spans.append(VisualSpan(count + 1, TOKENS_PER_TILE * size, increment))
            count += TOKENS_PER_TILE * size + 2
        elif kind == "text":
            count += size
    return count, spans


@pytest.mark.parametrize("case", V2PE["cases"], ids=lambda case: case["name"])
def test_equals_the_reference(case: Any) -> None:
    padding = sum(size for kind, size in case["layout"] if kind == "pad")
    for result in case["results"]:
        count, spans = _spans(case["layout"], result["stride"])
        ticks = prompt_positions(count, spans)
        positions = torch.cat([torch.ones(padding), as_float(ticks)])
        assert hashlib.sha256(positions.numpy().astype("<f4").tobytes()).hexdigest() == result["sha256_f32"]
        decoded = [next_position(ticks) / TICKS + step for step in range(3)]
        assert decoded == result["next_decode"]


layouts = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 40), st.sampled_from(INCREMENTS)), max_size=5)


def _from_layout(layout: list[tuple[int, int, int]]) -> tuple[int, list[VisualSpan]]:
    count, spans = 0, []
    for text_count, visual_count, increment in layout:
        count += text_count
        spans.append(VisualSpan(count, visual_count, increment))
        count += visual_count
    return count + 1, spans


@given(layouts)
def test_text_is_on_whole_positions_one_apart_and_visual_tokens_one_increment(
    layout: list[tuple[int, int, int]],
) -> None:
    count, spans = _from_layout(layout)
    ticks = prompt_positions(count, spans).tolist()
    increment_at = {index: span.increment for span in spans for index in range(span.start, span.end)}
    assert ticks[0] == 0
    for index in range(1, count):
        if index in increment_at:
            assert ticks[index] - ticks[index - 1] == increment_at[index]
        else:
            assert ticks[index] % TICKS == 0
            assert TICKS <= ticks[index] - ticks[index - 1] < 2 * TICKS


@given(layouts)
def test_increment_one_is_plain_counting(layout: list[tuple[int, int, int]]) -> None:
    count, spans = _from_layout([(text, visual, TICKS) for text, visual, _ in layout])
    assert prompt_positions(count, spans).tolist() == [TICKS * index for index in range(count)]


@pytest.mark.parametrize("exponent", range(9))
def test_the_nine_increments(exponent: int) -> None:
    assert increment_ticks(1 / 2**exponent) == TICKS >> exponent


@pytest.mark.parametrize("increment", [0, 2, -1, 0.3, 1 / 512, float("nan"), float("inf")])
def test_no_other_increment(increment: float) -> None:
    with pytest.raises(ValueError, match="position increment must be one of"):
        increment_ticks(increment)


@pytest.mark.parametrize("increment", INCREMENTS)
@pytest.mark.parametrize("counts", [(1, 1), (3, 5), (256, 512), (7, 2, 4)])
def test_spans_that_touch_are_one_image(counts: tuple[int, ...], increment: int) -> None:
    starts = [3 + sum(counts[:index]) for index in range(len(counts))]
    touching = [VisualSpan(start, count, increment) for start, count in zip(starts, counts, strict=True)]
    whole = [VisualSpan(3, sum(counts), increment)]
    for rest in (0, 4):
        length = 3 + sum(counts) + rest
        assert prompt_positions(length, touching).equal(prompt_positions(length, whole))
