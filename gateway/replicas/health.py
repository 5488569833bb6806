"""Whether a replica gets calls, from the outcomes of checks and calls. Pure: the clock is handed in.

    absent ──check ok──> present ──call failed──> ejected ──pause over, check ok──> present
       ^                    │
       └─check failed───────┘  at once when it refuses; after MISSED_CHECKS when it does not answer

Each ejection within CALM_SECONDS of the one before lasts twice as long.
"""

import random

from internvl.common.v1.visual_pb2 import ModelInfo

MISSED_CHECKS = 3
CALM_SECONDS = 30.0
_FIRST_EJECTION_SECONDS = 0.5
_LONGEST_EJECTION_SECONDS = 15.0


class ReplicaHealth:
    """One replica's."""

    def __init__(self) -> None:
        self.info: ModelInfo | None = None
        """What it serves, as of the last check; None while it is absent."""
        self.last_info: ModelInfo | None = None
        """What it served when it was last there."""
        self.was_checked = False
        self._missed = 0
        self._ejections = 0
        self._ejected_until: float | None = None
        """None: not ejected. A moment that has passed: waits for a check."""
        self._returned = 0.0

    @property
    def is_usable(self) -> bool:
        """Present, and not ejected."""
        return self.info is not None and self._ejected_until is None

    def check_passed(self, info: ModelInfo, now: float) -> None:
        """It answers and says that it serves."""
        self.was_checked = True
        self._missed = 0
        self.info = self.last_info = info
        if self._ejected_until is not None and now >= self._ejected_until:
            self._ejected_until = None
            self._returned = now

    def check_failed(self, *, refused: bool) -> None:
        """It says that it does not serve or cannot be reached (`refused`), or it did not answer in time."""
        self.was_checked = True
        self._missed += 1
        if refused or self._missed >= MISSED_CHECKS:
            self.info = None

    def call_failed(self, now: float) -> None:
        """A call found it unavailable."""
        if self._ejected_until is not None:
            return
        self._ejections = self._ejections + 1 if now - self._returned < CALM_SECONDS else 1
        longest = min(_FIRST_EJECTION_SECONDS * 2 ** (self._ejections - 1), _LONGEST_EJECTION_SECONDS)
        self._ejected_until = now + random.uniform(longest / 2, longest)

    def seconds_until_return(self, now: float) -> float | None:
        """Until a check may bring it back; None while it is not ejected."""
        return None if self._ejected_until is None else max(self._ejected_until - now, 0.0)
