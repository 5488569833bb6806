"""A reply that is asked for again goes on where it broke off. Pure.

What is sampled depends on the seed and the token's index only, so the same request gives the same reply: what its
reader has already is left out.
"""

from internvl.client.events import Delta, Event, Finished, Started


class Seen:
    """What a reader has of a reply."""

    def __init__(self) -> None:
        self._started = False
        self._text = ""
        self._logprob_count = 0
        self._again = ""
        self._again_logprob_count = 0

    def begin(self) -> None:
        """The reply is asked for from its start."""
        self._again, self._again_logprob_count = "", 0

    def news(self, event: Event) -> Event | None:
        """What of the event its reader does not have. Raises ValueError when this is another reply than before."""
        match event:
            case Started():
                first, self._started = not self._started, True
                return event if first else None
            case Delta():
                return self._news(event)
            case Finished():
                self._check(self._again[: len(self._text)] == self._text)
                return event

    def _news(self, delta: Delta) -> Delta | None:
        self._again += delta.text
        common = min(len(self._again), len(self._text))
        self._check(self._again[:common] == self._text[:common])
        text = self._again[len(self._text) :]
        known = max(self._logprob_count - self._again_logprob_count, 0)
        logprobs = delta.logprobs[known:]
        self._again_logprob_count += len(delta.logprobs)
        self._text += text
        self._logprob_count += len(logprobs)
        return Delta(text, logprobs) if text or logprobs else None

    def _check(self, same: bool) -> None:
        if not same:
            raise ValueError("the reply is not the one that broke off")
