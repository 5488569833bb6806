"""Position of every token under V2PE (variable visual position encoding, arXiv:2412.09616).

A text token advances the position by 1, a visual token by its image's increment, one of 1, 1/2, ... 1/256. Text after
an image continues on a whole number. Positions are kept as integers, in ticks of 1/256, until the rotary embedding:
in ticks every position is exact, whereas bfloat16 holds 900 distinct values among the whole numbers below 8,370.

    tokens      a   b  <img>  v   v   v   v  </img>  c
    increment 1 0   1    2    3   4   5   6    7     8
             ½  0   1    2   2½   3  3½   4    5     6
             ⅛  0   1    2   2⅛  2¼  2⅜  2½    4     5        (the last visual position is rounded up, then + 1)

Equal to `get_rope_pos_id` of OpenGVLab/V2PE wherever float32 can hold its result.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from internvl import increments

TICKS = 256
"""Ticks per whole position: the finest increment is one tick."""

INCREMENTS: tuple[int, ...] = tuple(int(increment * TICKS) for increment in increments.INCREMENTS)
"""Allowed increments of a visual token in ticks, largest first: 1, 1/2, ... 1/256."""


@dataclass(frozen=True)
class VisualSpan:
    """The visual tokens of one image: prompt indices [start, start + token_count)."""

    start: int
    token_count: int
    increment: int
    """Ticks per visual token, one of INCREMENTS."""

    def __post_init__(self) -> None:
        if self.increment not in INCREMENTS:
            raise ValueError(f"an increment of {self.increment}/{TICKS} is not a power of two from 1/{TICKS} to 1")
        if self.start < 1 or self.token_count < 1:
            raise ValueError(f"a span needs a token before it and one in it, got {self.start}, {self.token_count}")

    @property
    def end(self) -> int:
        return self.start + self.token_count


def increment_ticks(increment: float) -> int:
    """The increment in ticks. Raises ValueError unless it is one of 1, 1/2, ... 1/256."""
    ticks = increment * TICKS
    if ticks not in INCREMENTS:
        raise ValueError(f"position increment must be one of 1, 1/2, 1/4, ... 1/{TICKS}, got {increment:g}")
    return int(ticks)


def prompt_positions(token_count: int, spans: Sequence[VisualSpan]) -> torch.Tensor:
    """Ticks of each of `token_count` tokens: int64 (T,). Spans are in order and do not overlap; those that touch are
    one image."""
    ticks = torch.full((token_count,), TICKS, dtype=torch.int64)
    run = 0  # ticks since the last whole position
    for span, after in zip(spans, [*spans[1:], None], strict=False):
        assert span.end <= token_count
        ticks[span.start : span.end] = span.increment
        run += span.token_count * span.increment
        if after is not None and after.start == span.end:
            continue
        if span.end < token_count:
            # What the run left of its last whole position is rounded up, and the next token takes a full step.
            ticks[span.end] = TICKS + -run % TICKS
        run = 0
    ticks[:1] = 0
    return ticks.cumsum(0)


def next_position(positions: torch.Tensor) -> int:
    """Ticks of the token generated after these: a whole step past the last one, rounded up."""
    return -(-int(positions[-1]) // TICKS) * TICKS + TICKS if len(positions) else 0


def as_float(ticks: torch.Tensor) -> torch.Tensor:
    """Ticks to the rotary embedding's float32 positions. Divided in float64: ticks past 2**24 are not float32."""
    return (ticks.double() / TICKS).float()
