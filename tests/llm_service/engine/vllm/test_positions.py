"""Fractions through an integer pipeline, without losing any."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm_service.engine.vllm.positions import position_rows, split_rows
from llm_service.positions import INCREMENTS, TICKS, VisualSpan, as_float, next_position, prompt_positions

pictures = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 40), st.sampled_from(INCREMENTS)), max_size=4)
lengths = st.sampled_from([0, 1, 40_000, 2**31 - 1])


def laid_out(layout: list[tuple[int, int, int]], rest: int) -> tuple[int, list[VisualSpan]]:
    """Token count and spans of (text tokens, visual tokens, increment) and `rest` text tokens."""
    spans, start = [], 0
    for text_count, visual_count, increment in layout:
        spans.append(VisualSpan(start + text_count, visual_count, increment))
        start = spans[-1].end
    return start + rest, spans


@given(layout=pictures, rest=st.integers(1, 9), ntk_length=lengths)
def test_positions_and_length_come_back_as_they_went_in(
    layout: list[tuple[int, int, int]], rest: int, ntk_length: int
) -> None:
    token_count, spans = laid_out(layout, rest)
    rows, _ = position_rows(token_count, spans, ntk_length)
    assert rows.dtype == torch.int64
    assert rows.shape == (3, token_count)
    positions, ntk_lengths = split_rows(rows)
    assert positions.dtype == torch.float32
    assert torch.equal(positions, as_float(prompt_positions(token_count, spans)))
    assert set(ntk_lengths.tolist()) == {ntk_length}


@given(layout=pictures, rest=st.integers(0, 9), ntk_length=lengths, later=st.integers(0, 50))
def test_a_generated_token_stands_where_ours_does(
    layout: list[tuple[int, int, int]], rest: int, ntk_length: int, later: int
) -> None:
    """vLLM adds its int32 index to what it was given, and writes the sum into every row."""
    token_count, spans = laid_out(layout, rest)
    if token_count == 0:
        return
    _, offset = position_rows(token_count, spans, ntk_length)
    number = offset + np.int32(token_count + later)
    positions, ntk_lengths = split_rows(torch.full((3, 1), int(number)))
    assert positions.item() == next_position(prompt_positions(token_count, spans)) / TICKS + later
    assert ntk_lengths.item() == ntk_length


def test_a_reply_that_is_resumed_stands_where_it_stood() -> None:
    spans = [VisualSpan(3, 5, 16)]
    whole, _ = position_rows(20, spans, 0)
    rows, offset = position_rows(12, spans, 0)
    assert torch.equal(whole[:, :12], rows)
    assert [int(offset) + index for index in range(12, 20)] == whole[0, 12:].tolist()
