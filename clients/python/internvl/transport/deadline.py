"""The moment a request must be done by, measured once and passed on to every call made for it."""

import time
from dataclasses import dataclass

from internvl.errors import DeadlineExceeded


@dataclass(frozen=True)
class Deadline:
    """A point of the monotonic clock, or None for no limit."""

    moment: float | None = None

    @classmethod
    def after(cls, seconds: float | None) -> "Deadline":
        return cls(None if seconds is None else time.monotonic() + seconds)

    def remaining(self) -> float | None:
        """Seconds left, for the `timeout` of a call. Raises DeadlineExceeded when there are none."""
        if self.moment is None:
            return None
        seconds = self.moment - time.monotonic()
        if seconds <= 0:
            raise DeadlineExceeded("the deadline passed")
        return seconds
