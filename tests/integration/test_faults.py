"""Services die and hang under load, and nobody who asked notices: real processes, the demo model.

Nothing here is bound by seconds that a busy machine may use up: start-up stands outside the tests' limits, and what
hangs is let go only when all who asked have their answers.
"""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bench.cluster import HANGING, Cluster
from bench.faults import TIGHT, moved
from bench.load import TOKENS, Load, differing
from tests.support.faulty_proxy import Fault

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(1800, func_only=True)]
READERS = 6


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path_factory.mktemp("cluster"), flags=TIGHT.flags) as cluster:
        yield cluster


def begun(cluster: Cluster) -> Load:
    load = Load([cluster.address(0), cluster.address(1)], concurrency=READERS, keepalive=TIGHT.keepalive)
    load.start()
    return load


async def check(load: Load, cluster: Cluster) -> None:
    """Every reply is whole, and what a calm cluster says."""
    outcomes = [outcome for turns in load.outcomes.values() for outcome in turns]
    assert [outcome.error for outcome in outcomes if not outcome.is_whole] == []
    assert all(outcome.usage and outcome.usage.completion_token_count == len(outcome.token_ids) for outcome in outcomes)
    assert await differing(load, cluster.address(1)) == []


async def test_no_reply_waits_for_a_process_that_hangs(cluster: Cluster) -> None:
    """A vision replica and a gateway are stopped, an LLM replica's step does not return; none comes back meanwhile."""
    async with asyncio.timeout(300 + 4 * cluster.start_seconds):
        load = begun(cluster)
        for name in ("vision-0", "gateway-0"):
            await load.tokens(READERS * TOKENS // 4)
            cluster.hold(name)
        await load.tokens(READERS * TOKENS // 4)
        cluster.hang_step()
        await load.tokens(READERS * TOKENS // 2)
        await load.finish()
        assert moved(cluster)
        for name in ("vision-0", "gateway-0"):
            cluster.release(name)
        await cluster.restart(HANGING)
        await check(load, cluster)


async def test_no_reply_is_lost_or_wrong_whatever_dies(cluster: Cluster) -> None:
    """An LLM replica is cut off, a vision replica rolled out, Redis and a gateway crash, in turn."""
    async with asyncio.timeout(300 + 4 * cluster.start_seconds):
        load, before = begun(cluster), moved(cluster)
        await load.tokens(READERS * TOKENS // 4)
        cluster.proxies["llm-1"].fault = Fault.BLACK_HOLE
        for name, number in (
            ("vision-0", signal.SIGTERM),
            ("redis", signal.SIGKILL),
            ("gateway-0", signal.SIGKILL),
        ):
            await load.tokens(READERS * TOKENS // 4)
            cluster.kill(name, number)
        await load.tokens(READERS * TOKENS // 2)
        await load.finish()
        assert moved(cluster) > before
        cluster.proxies["llm-1"].fault = Fault.NONE
        await check(load, cluster)


async def test_a_reply_moves_when_its_replica_crashes(cluster: Cluster) -> None:
    """LLM replicas crash in turn until one of them had a reply under way."""
    async with asyncio.timeout(300 + 8 * cluster.start_seconds):
        load, before = begun(cluster), moved(cluster)
        for name in ("llm-0", "llm-1") * 4:
            await load.tokens(READERS * TOKENS // 4)
            cluster.kill(name, signal.SIGKILL)
            await load.tokens(READERS * TOKENS // 4)
            if moved(cluster) > before:
                break
            await cluster.restart(name)
        await load.finish()
        assert moved(cluster) > before
        await check(load, cluster)
