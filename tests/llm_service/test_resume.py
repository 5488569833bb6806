"""A reply that broke off between its last token and its end: only the end is missing."""

from collections.abc import AsyncGenerator
from typing import cast

import pytest

from llm_service.conversation import Message, Role
from llm_service.embeddings import EmbeddingLoader
from llm_service.engine.interface import (
    Admitted,
    Engine,
    EngineRequest,
    EngineStatus,
    FinishReason,
    GeneratedToken,
    SamplingParameters,
)
from llm_service.generation import Delta, Event, Finished, GenerationRequest, Generator, Started
from llm_service.prompt import PromptBuilder
from llm_service.window import Window
from tests.support.tokenizer import tokenizer


class SayingX(Engine):
    """Says x until it is stopped."""

    def __init__(self) -> None:
        self.requests: list[EngineRequest] = []

    async def failed(self) -> None:
        return

    async def generate(self, request: EngineRequest) -> AsyncGenerator[Admitted | GeneratedToken]:
        self.requests.append(request)
        yield Admitted(cached_token_count=2, queue_seconds=0.25)
        (token_id,) = tokenizer().encode("x")
        for index in range(len(request.resume_ids), request.max_tokens):
            finish = FinishReason.LENGTH if index + 1 == request.max_tokens else None
            yield GeneratedToken(token_id, finish)

    def status(self) -> EngineStatus:
        return EngineStatus(0, 0, 0, 0)

    async def close(self) -> None:
        return


async def events_of(engine: Engine, resumed: str, *, stop: str, max_tokens: int) -> list[Event]:
    builder = PromptBuilder(tokenizer().backend_tokenizer, "be brief")
    generator = Generator(engine, builder, tokenizer().backend_tokenizer, cast(EmbeddingLoader, None), Window(1000, 10))
    request = GenerationRequest(
        tenant="t",
        messages=[Message(Role.USER, ("hello",))],
        sampling=SamplingParameters(seed=5),
        max_tokens=max_tokens,
        stop=[stop],
        resume_ids=tokenizer().encode(resumed),
    )
    return [event async for event in generator.generate(request)]


@pytest.mark.parametrize(
    ("resumed", "max_tokens", "reason"), [("ab!", 9, FinishReason.STOP), ("abc", 3, FinishReason.LENGTH)]
)
async def test_nothing_is_generated_after_the_end(resumed: str, max_tokens: int, reason: FinishReason) -> None:
    engine = SayingX()
    started, *_, finished = await events_of(engine, resumed, stop="!", max_tokens=max_tokens)
    assert isinstance(started, Started)
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.completion_token_count, engine.requests) == (reason, 3, [])


async def test_what_is_missing_is_generated() -> None:
    engine = SayingX()
    events = await events_of(engine, "ab", stop="!", max_tokens=4)
    assert "".join(event.text for event in events if isinstance(event, Delta)) == "xx"
    assert isinstance(finished := events[-1], Finished)
    assert (finished.cached_token_count, finished.queue_seconds) == (2, 0.25)
    (request,) = engine.requests
    assert request.resume_ids == tokenizer().encode("ab")
