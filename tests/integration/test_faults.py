"""Services die under load, and nobody who asked notices: real processes, the demo model."""

import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bench.cluster import Cluster
from bench.load import TOKENS, Load, differing

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]
READERS = 6


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


async def test_no_reply_is_lost_or_wrong_whatever_dies(cluster: Cluster) -> None:
    """A crash of an LLM replica, a roll-out of a vision replica, a crash of Redis and of a gateway, in turn."""
    load = Load([cluster.address(0), cluster.address(1)], concurrency=READERS)
    load.start()
    await _crash_in_mid_reply(cluster, load)
    for name, number in (
        ("vision-0", signal.SIGTERM),
        ("redis", signal.SIGKILL),
        ("gateway-0", signal.SIGKILL),
    ):
        await load.tokens(READERS * TOKENS // 2)
        cluster.kill(name, number)
    await load.tokens(READERS * TOKENS)
    await load.finish()

    outcomes = [outcome for turns in load.outcomes.values() for outcome in turns]
    assert [outcome.error for outcome in outcomes if not outcome.is_whole] == []
    assert all(outcome.usage and outcome.usage.completion_token_count == len(outcome.token_ids) for outcome in outcomes)
    assert _moved(cluster)
    assert await differing(load, cluster.address(1)) == []


async def _crash_in_mid_reply(cluster: Cluster, load: Load) -> None:
    """Kills LLM replicas in turn until one of them had a reply under way."""
    for name in ("llm-0", "llm-1") * 4:
        await load.tokens(READERS * TOKENS // 2)
        cluster.kill(name, signal.SIGKILL)
        await load.tokens(READERS * TOKENS // 2)
        if _moved(cluster):
            return
        await cluster.restart(name)


def _moved(cluster: Cluster) -> bool:
    return "reply resumed on another replica" in cluster.log("gateway-0") + cluster.log("gateway-1")
