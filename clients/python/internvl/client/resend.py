"""A reply that is asked for again: which of its events are new, and when to ask. Pure, but for the clock.

What is sampled depends on the seed and the token's index only, so the same request gives the same reply: what its
reader has already is left out.
"""

import time
from dataclasses import replace

from internvl.client.events import Delta, Event, Finished, Started
from internvl.errors import ModelMismatch, Unavailable
from internvl.transport.deadline import Deadline
from internvl.transport.pauses import pause_seconds

RESENDS = 6
"""How often a reply is asked for again when nothing new came meanwhile."""
ROLLOUT_SECONDS = 300.0
"""How long a roll-out is waited for by a caller that names no deadline."""


class Absence:
    """How long to wait for a gateway that cannot answer: a few pauses, or a roll-out's time where that is the cause."""

    def __init__(self, deadline: Deadline) -> None:
        self._attempt = 0
        moment = time.monotonic() + ROLLOUT_SECONDS if deadline.moment is None else deadline.moment
        self._rollout_until = moment

    def is_over(self) -> None:
        """Something new came."""
        self._attempt = 0

    def pause(self, error: Unavailable) -> float:
        """Seconds until the reply is asked for again. Raises `error` when it is not to be."""
        self._attempt = min(self._attempt + 1, RESENDS + 1)
        seconds = pause_seconds(self._attempt)
        if isinstance(error, ModelMismatch):
            may_wait = time.monotonic() + seconds < self._rollout_until
        else:
            may_wait = self._attempt <= RESENDS
        if not may_wait:
            raise error
        return seconds


class Seen:
    """The part of a reply that its reader has."""

    def __init__(self) -> None:
        self._started = False
        self._had, self._again = _Heard(), _Heard()

    def begin(self) -> None:
        """The reply is asked for from its start."""
        self._again = _Heard()

    def news(self, event: Event) -> Event | None:
        """The part of an event that its reader lacks. Raises ValueError when this is another reply than before."""
        match event:
            case Started():
                first, self._started = not self._started, True
                return event if first else None
            case Delta():
                return self._news(event)
            case Finished():
                self._check(self._again.begins_as(self._had))
                return event

    def _news(self, delta: Delta) -> Delta | None:
        before = self._again.copy()
        self._again.take(delta)
        self._check(self._again.agrees(self._had))
        news = self._had.missing(delta, before)
        self._had.take(news)
        return news if news != Delta("") else None

    def _check(self, same: bool) -> None:
        if not same:
            raise ValueError("the reply is not the one that broke off")


class _Heard:
    """Text, arguments of calls, and how many entries there were of what comes whole."""

    def __init__(self) -> None:
        self.text = ""
        self.arguments: dict[int, str] = {}
        self.logprob_count = 0
        self.region_count = 0

    def copy(self) -> "_Heard":
        heard = _Heard()
        heard.__dict__.update(self.__dict__, arguments=dict(self.arguments))
        return heard

    def take(self, delta: Delta) -> None:
        self.text += delta.text
        for call in delta.tool_calls:
            self.arguments[call.index] = self.arguments.get(call.index, "") + call.arguments
        self.logprob_count += len(delta.logprobs)
        self.region_count += len(delta.regions)

    def agrees(self, other: "_Heard") -> bool:
        """Whether of each text one begins with the other."""
        pairs = [(self.text, other.text)]
        pairs += [(mine, other.arguments[index]) for index, mine in self.arguments.items() if index in other.arguments]
        return all(mine.startswith(theirs) or theirs.startswith(mine) for mine, theirs in pairs)

    def begins_as(self, other: "_Heard") -> bool:
        return self.text.startswith(other.text) and all(
            self.arguments.get(index, "").startswith(theirs) for index, theirs in other.arguments.items()
        )

    def missing(self, delta: Delta, before: "_Heard") -> Delta:
        """The part of a delta that is not here; `before` came before it."""
        calls = []
        for call in delta.tool_calls:
            came = before.arguments.get(call.index)
            before.arguments[call.index] = (came or "") + call.arguments
            had = self.arguments.get(call.index)
            arguments = before.arguments[call.index][max(len(had or ""), len(came or "")) :]
            if had is None and came is None:
                calls.append(replace(call, arguments=arguments))
            elif arguments:
                calls.append(replace(call, id="", name="", arguments=arguments))
        return Delta(
            (before.text + delta.text)[max(len(self.text), len(before.text)) :],
            delta.logprobs[max(self.logprob_count - before.logprob_count, 0) :],
            tuple(calls),
            delta.regions[max(self.region_count - before.region_count, 0) :],
        )
