"""What kills vLLM, or makes it lie, if it gets there. The checkpoint is in transformers' layout here."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest
import pytest_asyncio
import torch

from internvl.errors import EmbeddingInvalid, QueueFull, Unavailable
from llm_service.engine.interface import Admitted, EngineRequest, FinishReason, GeneratedToken
from llm_service.engine.vllm.engine import VllmEngine
from llm_service.positions import VisualSpan
from tests.llm_service.engine.conformance import collect, decoder, token_ids, wanted
from tests.support.language import IMAGE_TOKEN, WIDTH, Picture, Prompt, native_tokens, prompt_of
from tests.vllm.support import nothing_held, serving

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[VllmEngine]:
    async with serving(50, "hf") as engine:
        yield engine


@pytest_asyncio.fixture(loop_scope="module")
async def engine(running: VllmEngine) -> AsyncIterator[VllmEngine]:
    await nothing_held(running)
    yield running
    await nothing_held(running)


def with_rows(request: EngineRequest, rows: torch.Tensor) -> EngineRequest:
    """The request with these rows for its picture, whatever was asked for."""

    async def load(first: int, last: int) -> torch.Tensor:
        return rows

    (visual,) = request.visuals
    return replace(request, visuals=(replace(visual, load=load),))


@pytest.mark.parametrize(
    "rows",
    [
        torch.zeros(40, WIDTH),
        torch.zeros(49, WIDTH),
        torch.zeros(0, WIDTH),
        torch.zeros(48, WIDTH // 2),
        torch.zeros(48 * WIDTH),
        torch.full((48, WIDTH), float("nan")),
        torch.zeros(48, WIDTH).index_fill(0, torch.tensor([47]), float("inf")),
        torch.zeros(48, WIDTH, dtype=torch.int32),
    ],
    ids=["40 of 48", "49 of 48", "none", "narrow", "flat", "nan", "one inf", "integers"],
)
async def test_rows_that_do_not_fit_fail_their_request_alone(engine: VllmEngine, rows: torch.Tensor) -> None:
    steady, bad = prompt_of([5, (30, 32), 4], seed=1), prompt_of([5, (48, 32), 4], seed=2)
    results = await asyncio.gather(
        token_ids(engine, steady.request(10)), token_ids(engine, with_rows(bad.request(), rows)), return_exceptions=True
    )
    assert results[0] == wanted(steady, 10)
    assert type(results[1]) is EmbeddingInvalid
    assert await token_ids(engine, bad.request(5)) == wanted(bad, 5)


async def test_a_picture_at_two_increments_in_one_batch_is_two(engine: VllmEngine) -> None:
    prompt = prompt_of([5, (30, 256), 4], seed=23)
    (picture,) = prompt.pictures
    prompts = [
        Prompt(prompt.token_ids, (replace(picture, span=VisualSpan(5, 30, increment)),)) for increment in (256, 1)
    ]
    results = await asyncio.gather(*(token_ids(engine, each.request(8)) for each in prompts))
    assert results == [wanted(each, 8) for each in prompts]
    assert results[0] != results[1]


async def test_frames_that_share_a_key_keep_their_own_rows(engine: VllmEngine) -> None:
    rows = torch.randn(32, WIDTH, generator=torch.Generator().manual_seed(4))
    spans = [VisualSpan(3, 16, 64), VisualSpan(21, 16, 64)]
    ids = [1, 2, 3, *[IMAGE_TOKEN] * 16, 4, 5, *[IMAGE_TOKEN] * 16, 6]
    prompt = Prompt(ids, tuple(Picture(span, rows[16 * i : 16 * i + 16], "clip") for i, span in enumerate(spans)))

    async def load(first: int, last: int) -> torch.Tensor:
        return rows[first:last]

    request = prompt.request(8)
    frames = tuple(replace(visual, first_row=16 * i, load=load) for i, visual in enumerate(request.visuals))
    assert await token_ids(engine, replace(request, visuals=frames)) == wanted(prompt, 8)


async def test_another_tenants_rows_under_the_same_key_are_not_taken(engine: VllmEngine) -> None:
    """vLLM keeps rows by identifier, and its salt is no part of that."""
    mine = prompt_of([5, (30, 32), 4], seed=5)
    (picture,) = mine.pictures
    other = Prompt(mine.token_ids, (replace(picture, rows=-picture.rows),))
    results = await asyncio.gather(
        *(token_ids(engine, each.request(6, tenant=tenant)) for each, tenant in ((mine, "mine"), (other, "other")))
    )
    assert results == [wanted(mine, 6), wanted(other, 6)]


@pytest.mark.parametrize("increment", [256, 16])
async def test_a_stretched_rotation_stays_with_a_resumed_request(engine: VllmEngine, increment: int) -> None:
    prompt = prompt_of([9, (30, increment), 20], seed=6)
    whole = native_tokens(decoder().native, prompt, 8, ntk_length=3_000_000)
    for cut in (0, 3):
        request = replace(prompt.request(8, resume_ids=whole[:cut]), ntk_length=3_000_000)
        assert await token_ids(engine, request) == whole[cut:]


async def test_a_slow_reader_gets_every_token_once(engine: VllmEngine) -> None:
    """vLLM then hands over several at a time."""
    prompt = prompt_of([20], seed=7)
    tokens = []
    async with aclosing(engine.generate(prompt.request(30))) as stream:
        assert isinstance(await anext(stream), Admitted)
        async for token in stream:
            assert isinstance(token, GeneratedToken)
            tokens.append(token)
            await asyncio.sleep(0.05 if len(tokens) < 3 else 0)
    assert [token.token_id for token in tokens] == wanted(prompt, 30)
    assert [token.finish for token in tokens] == [None] * 29 + [FinishReason.LENGTH]


async def test_a_full_queue_refuses(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_max_live", 2)
    requests = [prompt_of([30], seed=index).request(4) for index in range(5)]
    results = await asyncio.gather(*(token_ids(engine, request) for request in requests), return_exceptions=True)
    assert [type(result) for result in results] == [list, list, QueueFull, QueueFull, QueueFull]


async def test_what_is_held_is_seen(engine: VllmEngine) -> None:
    async with aclosing(engine.generate(prompt_of([60], seed=8).request(200))) as tokens:
        await anext(tokens)
        status = engine.status()
        assert (status.running_count, status.waiting_count, status.page_count) == (1, 0, 50)
        assert 2 <= status.used_page_count <= 9


async def test_when_vllm_dies_everybody_is_told_at_once(running: VllmEngine) -> None:
    """The last test of the module: its engine is gone afterwards."""
    engine = running
    request = asyncio.create_task(token_ids(engine, prompt_of([30], seed=9).request(1000)))
    await asyncio.sleep(0.2)
    (core,) = (process for process in multiprocessing.active_children() if "EngineCore" in process.name)
    core.kill()
    async with asyncio.timeout(20):
        with pytest.raises(Unavailable, match="the engine has died"):
            await request
        assert await engine.failed() == "vLLM has died"
    with pytest.raises(Unavailable, match="the engine has died"):
        await collect(engine, prompt_of([9], seed=9).request(1))


async def test_when_vllm_hangs_its_requests_fail() -> None:
    """Those it has and those that come, while its process is there and says nothing."""
    async with serving(50, step_seconds=2.0) as engine:
        prompt = prompt_of([30], seed=10)
        assert await token_ids(engine, prompt.request(5)) == wanted(prompt, 5)
        assert engine.status().step_age_seconds == 0
        (core,) = (process for process in multiprocessing.active_children() if "EngineCore" in process.name)
        assert core.pid is not None
        os.kill(core.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(60):
                results = await asyncio.gather(
                    *(token_ids(engine, prompt.request(1000)) for _ in range(3)), return_exceptions=True
                )
                assert [type(result) for result in results] == [Unavailable] * 3
                assert engine.status().step_age_seconds == 0, "no request is left"
                assert "has not returned" in await engine.failed()
                with pytest.raises(Unavailable, match="the engine has died"):
                    await collect(engine, prompt.request(1))
        finally:
            os.kill(core.pid, signal.SIGCONT)
