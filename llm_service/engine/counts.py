"""What an engine has done since it started, for its status. Not thread-safe: the engine's lock is held around it."""

import time
from typing import TypedDict

from llm_service.engine.pytorch.scheduler import Plan
from llm_service.engine.pytorch.sequence import Sequence


class SinceStart(TypedDict):
    """Fields of EngineStatus."""

    preemption_count: int
    step_count: int
    step_token_count: int
    started_count: int
    queue_wait_seconds: float


class EngineCounts:
    """Steps, preemptions, and how long sequences wait for their first step."""

    def __init__(self) -> None:
        self._arrivals: dict[Sequence, float] = {}
        self._counts = SinceStart(
            preemption_count=0, step_count=0, step_token_count=0, started_count=0, queue_wait_seconds=0.0
        )

    def since_start(self) -> SinceStart:
        return self._counts

    def arrived(self, sequence: Sequence) -> None:
        """A preempted sequence comes a second time, and does not count again."""
        if not sequence.was_preempted:
            self._arrivals[sequence] = time.monotonic()

    def left(self, sequence: Sequence) -> None:
        """It may never have started."""
        self._arrivals.pop(sequence, None)

    def planned(self, plan: Plan) -> None:
        """A step is about to run, unless the plan is empty."""
        counts = self._counts
        counts["preemption_count"] += len(plan.preempted)
        if not plan.chunks:
            return
        counts["step_count"] += 1
        for chunk in plan.chunks:
            counts["step_token_count"] += chunk.token_count
            arrived = self._arrivals.pop(chunk.sequence, None)
            if arrived is not None:
                counts["started_count"] += 1
                chunk.sequence.queue_seconds = time.monotonic() - arrived
                counts["queue_wait_seconds"] += chunk.sequence.queue_seconds
