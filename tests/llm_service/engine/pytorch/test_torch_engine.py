"""The PyTorch engine keeps every promise of an Engine, and a few of its own."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from internvl.errors import Draining, QueueFull, Unavailable
from llm_service.engine.pytorch.engine import TorchEngine
from llm_service.engine.pytorch.scheduler import SchedulerLimits
from tests.llm_service.engine.conformance import EngineConformance, collect, decoder, idle, token_ids, wanted
from tests.support.language import prompt_of


async def serving(page_count: int, *, max_waiting: int = 100) -> AsyncIterator[TorchEngine]:
    limits = SchedulerLimits(tokens_per_step=24, max_running=12, max_waiting=max_waiting)
    engine = TorchEngine(decoder().paged, page_count=page_count, page_size=4, limits=limits)
    yield engine
    engine.check()
    await engine.close()


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
        await engine.failed()
