"""Whether a replica gets calls, from the outcomes of checks and calls. Pure: the clock is handed in.

    absent ──check ok──> present ──call failed──> ejected ──pause over, check ok──> present
       ^                  │   ^
       │       check missed   check ok
       │                  v   │
       └─MISSED_CHECKS─── silent

A check that is refused makes it absent at once: it says that it does not serve, or cannot be reached. One that is
missed, not answered in time, makes it silent: it may hang. So may one that answers and is stalled: its device works at
one piece for too long (`StallBound`). Each ejection within CALM_SECONDS of the one before lasts twice as long.
"""

import random
from dataclasses import dataclass

from internvl.common.v1.visual_pb2 import ModelInfo

MISSED_CHECKS = 3
CALM_SECONDS = 30.0
_FIRST_EJECTION_SECONDS = 0.5
_LONGEST_EJECTION_SECONDS = 15.0


@dataclass(frozen=True)
class Report:
    """Self-description of a replica."""

    info: ModelInfo
    work_age_seconds: float
    """Age of the step or batch on its device; 0 between two."""


class StallBound:
    """How long one piece of work may take on the devices of a service: some seconds, or longer where that is normal.

    What is normal is learned: a piece that ended was none that hangs, and the next may take twice as long.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def learn(self, ended_seconds: float) -> None:
        """A piece of work ended that had been seen at this age."""
        self.seconds = max(self.seconds, 2 * ended_seconds)


class ReplicaHealth:
    """Health of one replica."""

    def __init__(self, bound: StallBound) -> None:
        self._bound = bound
        self._work_age_seconds = 0.0
        self.info: ModelInfo | None = None
        """The model it serves, as of the last check; None while it is absent."""
        self.last_info: ModelInfo | None = None
        """The model it served when it was last there."""
        self.was_checked = False
        self._missed = 0
        self._ejections = 0
        self._ejected_until: float | None = None
        """None: not ejected. A moment that has passed: waits for a check."""
        self._returned = 0.0

    @property
    def is_usable(self) -> bool:
        """Present, neither ejected nor silent nor stalled."""
        return self.is_answering and self._ejected_until is None

    @property
    def is_answering(self) -> bool:
        """Present, neither silent nor stalled."""
        return self.info is not None and not self.is_silent and not self.is_stalled

    @property
    def is_silent(self) -> bool:
        """Whether it left the last check unanswered."""
        return self._missed > 0

    @property
    def is_stalled(self) -> bool:
        """Whether its device has worked at one piece for too long, as of the last check."""
        return self._work_age_seconds > self._bound.seconds

    def check_passed(self, report: Report, now: float) -> None:
        """It answers and says that it serves."""
        # A process that was stopped reports an age that holds the time when it stood still.
        age = 0.0 if self._missed else report.work_age_seconds
        if not self._missed and age < self._work_age_seconds:
            self._bound.learn(self._work_age_seconds)
        self.was_checked = True
        self._missed = 0
        self.info = self.last_info = report.info
        self._work_age_seconds = age
        if self._ejected_until is not None and now >= self._ejected_until:
            self._ejected_until = None
            self._returned = now

    def check_refused(self) -> None:
        """It says that it does not serve, or cannot be reached."""
        self.was_checked = True
        self._missed = 0
        self._work_age_seconds = 0.0
        self.info = None

    def check_missed(self) -> None:
        """It did not answer in time."""
        self.was_checked = True
        self._missed += 1
        if self._missed >= MISSED_CHECKS:
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
