"""How often something is tried again, and after what pause. Pure but for the dice."""

import random

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0


class RetryBudget:
    """Bounds retries to a share of the requests, so that a service in trouble is not asked twice as much for it.

    A bucket: every request pays in `ratio`, every retry takes out 1. It begins full, and `burst` is how many streams
    may move at once when a replica dies.
    """

    def __init__(self, ratio: float, burst: int) -> None:
        self._ratio = ratio
        self._burst = float(burst)
        self._tokens = self._burst

    def deposit(self) -> None:
        """One more request has come."""
        self._tokens = min(self._tokens + self._ratio, self._burst)

    def withdraw(self) -> bool:
        """Whether one more retry may be made; takes it if so."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def pause_seconds(attempt: int) -> float:
    """Before the retry of this number, from 1 on: up to a bound that doubles, at random so that callers spread out."""
    longest = min(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1), LONGEST_PAUSE_SECONDS)
    return random.uniform(longest / 2, longest)
