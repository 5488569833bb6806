"""Pauses before retries. Pure but for the dice."""

import random

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0


def pause_seconds(attempt: int) -> float:
    """Before the retry of this number, from 1 on: up to a bound that doubles, at random so that callers spread out."""
    longest = min(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1), LONGEST_PAUSE_SECONDS)
    return random.uniform(longest / 2, longest)
