"""Pauses are bounded."""

from hypothesis import given
from hypothesis import strategies as st

from internvl.transport.pauses import LONGEST_PAUSE_SECONDS, pause_seconds


@given(st.integers(1, 64))
def test_pauses_are_bounded(attempt: int) -> None:
    assert 0 <= pause_seconds(attempt) <= min(0.05 * 2 ** (attempt - 1), LONGEST_PAUSE_SECONDS)
