"""The PyTorch engine keeps every promise of an Engine, and a few of its own."""

import asyncio
import copy
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
import torch

from internvl.errors import Draining, QueueFull, Unavailable
from llm_service.engine.grammar import Grammars
from llm_service.engine.interface import GeneratedToken, SamplingParameters
from llm_service.engine.pytorch.engine import TorchEngine
from llm_service.engine.pytorch.scheduler import SchedulerLimits
from llm_service.model.cache import PagedCache
from llm_service.model.step import StepInput
from llm_service.prompt import Prompt as LaidOut
from llm_service.window import Window
from tests.llm_service.engine.conformance import EngineConformance, collect, decoder, idle, token_ids, wanted
from tests.support.language import native_samples, prompt_of, tiny_decoder
from tests.support.tokenizer import core, end_id


async def serving(page_count: int, *, max_waiting: int = 100) -> AsyncIterator[TorchEngine]:
    grammars = Grammars(core(), end_id())
    limits = SchedulerLimits(tokens_per_step=24, max_running=12, max_waiting=max_waiting)
    engine = TorchEngine(decoder().paged, page_count=page_count, page_size=4, limits=limits, grammars=grammars)
    yield engine
    engine.check()
    await engine.close()
    grammars.close()


class TestTorchEngine(EngineConformance):
    """All of the conformance suite."""

    @pytest.fixture
    async def engine(self) -> AsyncIterator[TorchEngine]:
        async for engine in serving(400):
            yield engine

    @pytest.fixture
    async def small_engine(self) -> AsyncIterator[TorchEngine]:
        async for engine in serving(20):
            yield engine


@pytest.fixture
async def engine() -> AsyncIterator[TorchEngine]:
    async for engine in serving(400, max_waiting=2):
        yield engine


@pytest.mark.parametrize("token_count", [64, 65, 200])
async def test_past_the_window_the_first_token_is_transformers_own(token_count: int) -> None:
    """Its rotary module is left to choose the base itself: by the prompt, and never by how long a reply may be."""
    tiny = tiny_decoder(seed=3, window=64)
    prompt = prompt_of([token_count], seed=token_count)
    limits = SchedulerLimits(tokens_per_step=24, max_running=12, max_waiting=100)
    engine = TorchEngine(tiny.paged, page_count=400, page_size=4, limits=limits)
    window = Window(trained=64, default_max_tokens=8, stretched=400)
    sampling = SamplingParameters(seed=1, top_logprob_count=5)
    (expected,) = native_samples(tiny.native, prompt, 1, sampling)
    replies = []
    for max_tokens in (1, 100):
        fitted = window.fit(LaidOut(prompt.token_ids, ()), [], max_tokens)
        request = replace(prompt.request(max_tokens, sampling=sampling), ntk_length=fitted.ntk_length)
        replies.append([event async for event in engine.generate(request) if isinstance(event, GeneratedToken)])
        first = replies[-1][0]
        assert first.token_id == expected.token_id
        ours, theirs = ([(each.token_id, each.logprob) for each in of.alternatives] for of in (first, expected))
        assert [token_id for token_id, _ in ours] == [token_id for token_id, _ in theirs]
        assert [value for _, value in ours] == pytest.approx([value for _, value in theirs], abs=1e-5)
    longest = [token.token_id for token in replies[-1]]
    assert all([token.token_id for token in reply] == longest[: len(reply)] for reply in replies)
    await engine.close()


async def test_a_full_queue_refuses(engine: TorchEngine) -> None:
    requests = [prompt_of([30], seed=index).request(4) for index in range(6)]
    results = await asyncio.gather(*(token_ids(engine, request) for request in requests), return_exceptions=True)
    refused = [result for result in results if isinstance(result, QueueFull)]
    assert refused
    assert all(error.retry_after_seconds for error in refused)
    assert next(result for result in results if isinstance(result, list)) == wanted(prompt_of([30], seed=0), 4)
    await idle(engine)


async def test_closing_fails_those_that_run(engine: TorchEngine) -> None:
    running = asyncio.create_task(token_ids(engine, prompt_of([30], seed=1).request(500)))
    await asyncio.sleep(0.05)
    await engine.close()
    with pytest.raises(Draining):
        await running
    with pytest.raises(Draining):
        await collect(engine, prompt_of([30], seed=1).request(1))


async def test_a_crash_fails_everybody_with_a_reason(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(chunks: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engine, "_run", crash)
    results = await asyncio.gather(
        *(token_ids(engine, prompt_of([9], seed=index).request(4)) for index in range(2)), return_exceptions=True
    )
    assert [type(result) for result in results] == [Unavailable, Unavailable]
    assert "memory" not in str(results[0])
    async with asyncio.timeout(5):
        assert await engine.failed() == "its loop failed"


@dataclass
class Device:
    """Holds up each step of an engine for `seconds`, and from `hang` on until `release`."""

    seconds: float = 0.0
    is_free: threading.Event = field(default_factory=threading.Event)
    hangs: bool = False

    def hold(self) -> None:
        time.sleep(self.seconds)
        if self.hangs:
            self.is_free.wait()


@pytest.fixture
async def held(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[TorchEngine, Device]]:
    """An engine whose steps may take 0.4 s, and its device."""
    device, model = Device(), copy.copy(decoder().paged)
    forward = model.forward

    def forward_when_free(step: StepInput, cache: PagedCache) -> torch.Tensor:
        device.hold()
        return forward(step, cache)

    monkeypatch.setattr(model, "forward", forward_when_free)
    limits = SchedulerLimits(tokens_per_step=24, max_running=4, max_waiting=100)
    engine = TorchEngine(model, page_count=400, page_size=4, limits=limits, step_seconds=0.4)
    yield engine, device
    await engine.close()
    device.is_free.set()


async def test_a_step_that_hangs_fails_everybody_and_ends_the_engine(held: tuple[TorchEngine, Device]) -> None:
    """Those in the step, those that wait for it and those that come later; with the cause, and within its limit."""
    engine, device = held
    assert await token_ids(engine, prompt_of([9], seed=0).request(3)) == wanted(prompt_of([9], seed=0), 3)
    device.hangs = True
    started = time.monotonic()
    async with asyncio.timeout(60):
        results = await asyncio.gather(
            *(token_ids(engine, prompt_of([9], seed=index).request(4)) for index in range(8)), return_exceptions=True
        )
        assert [type(result) for result in results] == [Unavailable] * 8
        assert engine.status().step_age_seconds >= 0.4
        assert "has not returned" in await engine.failed()
        with pytest.raises(Unavailable):
            await collect(engine, prompt_of([9], seed=1).request(1))
        await engine.close()
    assert time.monotonic() - started < 20, "nothing waits for the thread that hangs"


async def test_slow_steps_are_no_hang(held: tuple[TorchEngine, Device]) -> None:
    """More than twice the limit together, and the longest well below it."""
    engine, device = held
    device.seconds = 0.1
    prompt = prompt_of([9], seed=2)
    assert await token_ids(engine, prompt.request(9)) == wanted(prompt, 9)
    assert not engine._failed.done()
    assert engine.status().step_age_seconds == 0
