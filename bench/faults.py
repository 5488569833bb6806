"""`python -m bench.faults [name ...]`: kills each of the seven processes under load, both ways; counts what was lost.

A row is wrong when a conversation was not answered whole, or was answered otherwise than by a calm cluster.
"""

import asyncio
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.cluster import NAMES, Cluster
from bench.load import TOKENS, Load, differing

SIGNALS = (signal.SIGKILL, signal.SIGTERM)
CONCURRENCY = 8


async def kill_under_load(cluster: Cluster, name: str, number: signal.Signals) -> dict[str, int]:
    """One row: `name` dies in the middle of replies, and comes back."""
    load = Load([cluster.address(0), cluster.address(1)], concurrency=CONCURRENCY)
    moved_before = _moved(cluster)
    load.start()
    await load.tokens(CONCURRENCY * TOKENS // 2)
    cluster.kill(name, number)
    await load.tokens(2 * CONCURRENCY * TOKENS)
    await load.finish()
    moved = _moved(cluster) - moved_before
    await cluster.restart(name)
    outcomes = [outcome for turns in load.outcomes.values() for outcome in turns]
    return {
        "replies": len(outcomes),
        "moved": moved,
        "lost": sum(not outcome.is_whole for outcome in outcomes),
        "wrong": len(await differing(load, cluster.address())),
    }


def _moved(cluster: Cluster) -> int:
    return sum(cluster.log(f"gateway-{index}").count('"reply resumed on another replica"') for index in range(2))


async def main(names: Sequence[str]) -> bool:
    """Prints the table; whether every row is clean."""
    print("| killed | signal | replies | moved in mid-stream | lost | wrong |")
    print("|---|---|---|---|---|---|")
    clean = True
    with tempfile.TemporaryDirectory(prefix="internvl-faults-") as folder:
        async with Cluster(Path(folder)) as cluster:
            for name in names:
                for number in SIGNALS:
                    row = await kill_under_load(cluster, name, number)
                    print(f"| {name} | {number.name} |", *(f"{value} |" for value in row.values()), flush=True)
                    clean = clean and row["lost"] == row["wrong"] == 0
    return clean


if __name__ == "__main__":
    chosen = sys.argv[1:] or NAMES
    if not set(chosen) <= set(NAMES):
        sys.exit(f"usage: python -m bench.faults [{' '.join(NAMES)}]")
    sys.exit(0 if asyncio.run(main(chosen)) else 1)
