"""Workload of `bench.llm`: the same for every engine. Plain data, importable anywhere."""

import random
from collections.abc import Sequence

PREFILL_TOKENS = 1856
"""An image of seven tiles and 64 tokens of text."""
TURN_TOKENS = 40
"""A second question about it."""
DECODE_BATCHES = (1, 4, 8)
DECODE_PROMPT_TOKENS, DECODE_TOKENS = 300, 33
CHATS, CHAT_PROMPT_TOKENS, CHAT_TOKENS = 16, 296, 32
"""Chats about an image of one tile each."""
_TEXT_TOKENS = 150_000
"""Part of the vocabulary: below all control tokens."""


class Prompts:
    """Random token ids, never the same twice, so that no cache knows a prompt that is not meant to be known."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def ids(self, count: int) -> list[int]:
        return [self._random.randrange(_TEXT_TOKENS) for _ in range(count)]


def steady_rate(arrivals: Sequence[Sequence[float]]) -> float:
    """Tokens per second of several replies, from when all have begun: arrival times in seconds of each one's tokens."""
    start = max(times[0] for times in arrivals)
    end = max(times[-1] for times in arrivals)
    return sum(time > start for times in arrivals for time in times) / (end - start)
