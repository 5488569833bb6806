"""A model on two ranks keeps every promise of an Engine, and a rank that dies is noticed."""

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from internvl.errors import Unavailable
from llm_service.engine.grammar import Grammars
from llm_service.engine.pytorch.engine import TorchEngine
from llm_service.engine.pytorch.scheduler import SchedulerLimits
from llm_service.model.options import LoadedModel, ModelOptions
from llm_service.model.ranks.ranks import RanksUnsupported
from llm_service.model.ranks.start import FirstRank, RankDied, start
from tests.llm_service.engine.conformance import EngineConformance, token_ids, write_decoder
from tests.support.checkpoints import write_random_checkpoint
from tests.support.language import prompt_of
from tests.support.tokenizer import core, end_id


def options(folder: Path, page_count: int = 400) -> ModelOptions:
    return ModelOptions(
        folder=folder, device="cpu", dtype="float32", weights="stored", attention="sdpa", page_size=4,
        cache_bytes=page_count * 2 * 2 * 1 * 32 * 4 * 4, max_positions=0, threads=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedModel]:
    folder = tmp_path_factory.mktemp("decoder")
    write_decoder(folder)
    loaded = start(options(folder), 2, "info")
    yield loaded
    loaded.model.ranks.close()


async def serving(loaded: LoadedModel, page_count: int) -> AsyncIterator[TorchEngine]:
    assert loaded.page_count == 400
    limits = SchedulerLimits(tokens_per_step=24, max_running=12, max_waiting=100)
    grammars = Grammars(core(), end_id())
    engine = TorchEngine(loaded.model, page_count=page_count, page_size=4, limits=limits, grammars=grammars)
    yield engine
    engine.check()
    await engine.close()
    grammars.close()


class TestTwoRanks(EngineConformance):
    """All of the conformance suite."""

    @pytest.fixture
    async def engine(self, two_ranks: LoadedModel) -> AsyncIterator[TorchEngine]:
        async for engine in serving(two_ranks, 400):
            yield engine

    @pytest.fixture
    async def small_engine(self, two_ranks: LoadedModel) -> AsyncIterator[TorchEngine]:
        async for engine in serving(two_ranks, 20):
            yield engine


async def test_when_a_rank_dies_so_does_the_engine(two_ranks: LoadedModel, caplog: pytest.LogCaptureFixture) -> None:
    """The last test of the module: its ranks are gone afterwards."""
    limits = SchedulerLimits(tokens_per_step=24, max_running=12, max_waiting=100)
    engine = TorchEngine(two_ranks.model, page_count=400, page_size=4, limits=limits)
    running = asyncio.create_task(token_ids(engine, prompt_of([30], seed=1).request(1000)))
    await asyncio.sleep(0.2)
    assert isinstance(two_ranks.model.ranks, FirstRank)
    (process,) = two_ranks.model.ranks.processes
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        with pytest.raises(Unavailable):
            await running
        await engine.failed()
    assert "rank 1 has ended" in [getattr(record, "cause", "") for record in caplog.records]
    await engine.close()


def test_more_ranks_than_key_value_heads_are_refused_before_any_starts(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path)
    with pytest.raises(RanksUnsupported, match=r"4 ranks .* num_key_value_heads is 2"):
        start(options(tmp_path), 4, "info")
    assert multiprocessing.active_children() == []


def test_a_rank_that_dies_while_it_starts_is_told(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path)

    def kill() -> None:
        while not multiprocessing.active_children():
            time.sleep(0.01)
        multiprocessing.active_children()[0].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(RankDied, match="rank 1"):
        start(options(tmp_path), 2, "info")
    killer.join()
    assert multiprocessing.active_children() == []
