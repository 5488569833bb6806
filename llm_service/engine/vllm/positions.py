"""Fractional positions through vLLM, which knows whole ones.

With M-RoPE vLLM carries three integers for each token, and writes one number into all three for a token it generates:

    row 0   whole part of the position
    row 1   whole part + ticks of the fraction
    row 2   as row 0

A generated token therefore has no fraction, which is V2PE's own rule. Above the position each number holds the length
that dynamic NTK stretches for, so that it, too, stays with the request: | ntk_length | position, 32 bits |.
"""

from collections.abc import Sequence

import numpy as np
import torch

from llm_service.positions import TICKS, VisualSpan, as_float, next_position, prompt_positions

ROW_COUNT = 3
_POSITION_BITS = 32


def position_rows(token_count: int, spans: Sequence[VisualSpan], ntk_length: int) -> tuple[torch.Tensor, np.int64]:
    """Rows int64 (3, T) of a prompt, and what vLLM adds to a later token's index to have its number.

    numpy's int64, because vLLM's index is numpy's int32, and a Python number would be cut to that.
    """
    ticks = prompt_positions(token_count, spans)
    whole = ticks // TICKS
    above = ntk_length << _POSITION_BITS
    rows = torch.stack([whole, whole + ticks % TICKS, whole]) + above
    return rows, np.int64(next_position(ticks) // TICKS + above - token_count)


def split_rows(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions float32 (T,) and NTK lengths int64 (T,) of rows (3, T)."""
    whole = rows[0] & ((1 << _POSITION_BITS) - 1)
    return as_float(whole * TICKS + rows[1] - rows[0]), rows[0] >> _POSITION_BITS
