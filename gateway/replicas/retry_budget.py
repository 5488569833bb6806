"""A bound on retries. Pure."""


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
