"""Chats that are under way while something dies, and whether each was answered as it should have been.

At this temperature a reply rambles until it happens to end, long enough to be hit, and its seed makes it the same reply
whenever it is asked for. Log-probabilities are asked for because they name every token.

A draw can turn on the last bit of a float, which depends on what else is in the batch: once in some 30,000 tokens
here. So a reply counts as right when a calm cluster gives it in one of a few attempts; no missing or repeated token
passes that.
"""

import asyncio
import io
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from internvl.client import ChatClient, ChatSession, Delta, Finished, Sampling
from internvl.client.events import Usage
from internvl.errors import InternvlError
from internvl.transport.channel import DEFAULT_KEEPALIVE, Keepalive

TOKENS = 120
TURN_SECONDS = 600.0
"""Deadline of a turn: a busy machine is slow, not wrong."""


@dataclass(frozen=True)
class Outcome:
    """One turn as its reader met it."""

    text: str
    token_ids: tuple[int, ...]
    usage: Usage | None
    error: str | None = None
    gap_seconds: float = 0.0
    """The longest wait for an event, the first one included."""

    @property
    def is_whole(self) -> bool:
        return self.error is None and self.usage is not None

    def equals(self, other: "Outcome") -> bool:
        """Token for token, and the same counts but for what the caches held."""
        return (self.text, self.token_ids, _counts(self.usage)) == (other.text, other.token_ids, _counts(other.usage))


Held = dict[int, tuple[Outcome, ...]]


class Load:
    """Numbered conversations of two turns about an image of their own."""

    def __init__(self, addresses: Sequence[str], *, concurrency: int, keepalive: Keepalive = DEFAULT_KEEPALIVE) -> None:
        self._addresses = addresses
        self._keepalive = keepalive
        self._concurrency = concurrency
        self._tokens = 0
        self._numbers = itertools.count()
        self._done: Held = {}
        self._stopping = False
        self._readers: list[asyncio.Task[None]] = []

    @property
    def token_count(self) -> int:
        """Tokens that readers have."""
        return self._tokens

    @property
    def outcomes(self) -> Held:
        return dict(self._done)

    def start(self) -> None:
        self._readers = [asyncio.create_task(self._read(index)) for index in range(self._concurrency)]

    async def finish(self) -> None:
        """Every conversation that was begun ends."""
        self._stopping = True
        await asyncio.gather(*self._readers)

    async def tokens(self, count: int) -> None:
        """Returns when so many more have come."""
        wanted = self._tokens + count
        while self._tokens < wanted:  # noqa: ASYNC110 - counted in many tasks
            await asyncio.sleep(0.01)

    async def _read(self, index: int) -> None:
        address = self._addresses[index % len(self._addresses)]
        async with ChatClient(address, keepalive=self._keepalive) as client:
            while not self._stopping:
                number = next(self._numbers)
                self._done[number] = await self.conversation(client, number)

    async def conversation(self, client: ChatClient, number: int) -> tuple[Outcome, ...]:
        """Text of conversation `number`, whenever and wherever it is held."""
        sampling = Sampling(max_tokens=TOKENS, temperature=100.0, top_k=64, seed=number, top_logprob_count=0)
        session = ChatSession(client, sampling=sampling)
        first = await self._turn(session, picture(number), f"Story {number}, please.")
        return (first, await self._turn(session, "And then?")) if first.is_whole else (first,)

    async def _turn(self, session: ChatSession, *parts: bytes | str) -> Outcome:
        text, token_ids, usage, error = "", [], None, None
        heard, gap = time.monotonic(), 0.0
        try:
            async for event in session.ask(*parts, timeout=TURN_SECONDS):
                gap, heard = max(gap, time.monotonic() - heard), time.monotonic()
                if isinstance(event, Delta):
                    text += event.text
                    token_ids += [each.token_id for each in event.logprobs]
                    self._tokens += len(event.logprobs)
                elif isinstance(event, Finished):
                    usage = event.usage
        except (InternvlError, ValueError) as failure:
            error = repr(failure)
        return Outcome(text, tuple(token_ids), usage, error, max(gap, time.monotonic() - heard))


async def differing(load: Load, address: str) -> list[int]:
    """Conversations whose replies are not those of a calm cluster: in company, alone, in company again."""
    suspects = load.outcomes
    for at_once in (8, 1, 3, 1):
        suspects = await _differing(load, suspects, address, at_once)
    return list(suspects)


async def _differing(load: Load, held: Held, address: str, at_once: int) -> Held:
    room = asyncio.Semaphore(at_once)
    async with ChatClient(address) as client:

        async def is_same(number: int, outcomes: tuple[Outcome, ...]) -> bool:
            async with room:
                calm = await load.conversation(client, number)
            return len(calm) == len(outcomes) and all(map(Outcome.equals, calm, outcomes))

        same = await asyncio.gather(*(is_same(*item) for item in held.items()))
    return {number: held[number] for number, equal in zip(held, same, strict=True) if not equal}


def picture(number: int) -> bytes:
    """One that no other conversation has."""
    image = Image.new("RGB", (112, 112), (number % 256, number // 256 % 256, 90))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _counts(usage: Usage | None) -> tuple[object, ...] | None:
    if usage is None:
        return None
    return (
        usage.prompt_token_count,
        usage.visual_token_count,
        usage.completion_token_count,
        usage.position_increments,
    )
