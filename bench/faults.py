"""`python -m bench.faults [--tight] [--harm KIND] [name ...]`: processes killed, stopped, hung or cut off under load.

A reply is lost when it is not whole, and a conversation is wrong when it was answered otherwise than by a calm cluster.
The gap is the longest that a reader waited for an event, the first one included.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.cluster import HANGING, NAMES, PROXIED, Cluster
from bench.load import TOKENS, Load, differing
from internvl.transport.channel import DEFAULT_KEEPALIVE, Keepalive
from tests.support.faulty_proxy import Fault

CONCURRENCY = 8


@dataclass(frozen=True)
class Settings:
    """How soon hangs are noticed, and the longest gap that is wanted then."""

    flags: Mapping[str, Sequence[str]]
    """Replicas of each service."""
    keepalive: Keepalive
    """Tasks of the readers."""
    wanted_gap_seconds: float


def _flags(**settings: float) -> list[str]:
    return [word for name, value in settings.items() for word in ("--" + name.replace("_", "-"), str(value))]


_PINGS = {"keepalive_seconds": 1.5, "keepalive_timeout_seconds": 1.5}
DEFAULT = Settings({}, DEFAULT_KEEPALIVE, 15.0)
TIGHT = Settings(
    {
        "vision": _flags(**_PINGS),
        "llm": _flags(**_PINGS, holder_seconds=1.5),
        "gateway": _flags(
            **_PINGS, backend_check_seconds=0.5, backend_check_timeout_seconds=1.5, backend_stall_seconds=2.0
        ),
    },
    Keepalive(1.5, 1.5),
    5.0,
)


@dataclass(frozen=True)
class Harm:
    """Something that happens to one process, and what ends it."""

    name: str
    kind: str
    begin: Callable[[Cluster], object]
    end: Callable[[Cluster], Awaitable[object]]
    is_held: bool = True
    """Whether it lasts until it is ended: long enough for everything that waits for its end to be seen."""


def harms() -> list[Harm]:
    """Every row of the table."""
    found = []
    for name in NAMES:
        for number in (signal.SIGKILL, signal.SIGTERM):
            begin = partial(Cluster.kill, name=name, number=number)
            found.append(Harm(name, number.name, begin, partial(Cluster.restart, name=name), is_held=False))
        found.append(Harm(name, "SIGSTOP", partial(Cluster.hold, name=name), partial(_release, name=name)))
    found.append(Harm(HANGING, "hung step", Cluster.hang_step, partial(Cluster.restart, name=HANGING)))
    for name in PROXIED:
        for fault in (Fault.SLOW, Fault.HALF_CLOSE, Fault.BLACK_HOLE):
            kind = "network: " + fault.name.lower().replace("_", " ")
            begin, end = partial(_disturb, name=name, fault=fault), partial(_calm, name=name)
            found.append(Harm(name, kind, begin, end))
    return found


async def harm_under_load(cluster: Cluster, harm: Harm, settings: Settings) -> dict[str, float]:
    """One row: `harm` comes in the middle of replies, and ends."""
    load = Load([cluster.address(0), cluster.address(1)], concurrency=CONCURRENCY, keepalive=settings.keepalive)
    moved_before = moved(cluster)
    load.start()
    await load.tokens(CONCURRENCY * TOKENS // 2)
    harm.begin(cluster)
    await asyncio.gather(
        load.tokens(2 * CONCURRENCY * TOKENS), asyncio.sleep(1.5 * settings.wanted_gap_seconds * harm.is_held)
    )
    await load.finish()
    moved_count = moved(cluster) - moved_before
    await harm.end(cluster)
    outcomes = [outcome for turns in load.outcomes.values() for outcome in turns]
    return {
        "replies": len(outcomes),
        "moved": moved_count,
        "gap": round(max(outcome.gap_seconds for outcome in outcomes), 1),
        "lost": sum(not outcome.is_whole for outcome in outcomes),
        "wrong": len(await differing(load, cluster.address())),
    }


def moved(cluster: Cluster) -> int:
    """Replies that moved to another replica, with or without tokens by then, as the gateways log them."""
    logs = [cluster.log(f"gateway-{index}") for index in range(2)]
    return sum(log.count('"reply resumed on another replica"') + log.count('"reply restarted"') for log in logs)


async def _release(cluster: Cluster, name: str) -> None:
    cluster.release(name)


def _disturb(cluster: Cluster, name: str, fault: Fault) -> None:
    cluster.proxies[name].fault = fault


async def _calm(cluster: Cluster, name: str) -> None:
    cluster.proxies[name].fault = Fault.NONE


async def main(names: Sequence[str], kinds: Sequence[str], settings: Settings) -> bool:
    """Prints the table; whether every row is clean."""
    print("| process | harm | replies | moved in mid-stream | longest gap, s | lost | wrong |")
    print("|---|---|---|---|---|---|---|")
    clean = True
    with tempfile.TemporaryDirectory(prefix="internvl-faults-") as folder:
        async with Cluster(Path(folder), flags=settings.flags) as cluster:
            for harm in harms():
                if harm.name in names and harm.kind in kinds:
                    row = await harm_under_load(cluster, harm, settings)
                    print(f"| {harm.name} | {harm.kind} |", *(f"{value} |" for value in row.values()), flush=True)
                    clean = clean and row["lost"] == row["wrong"] == 0 and row["gap"] <= settings.wanted_gap_seconds
    return clean


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.faults")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--tight", action="store_true", help="settings that notice hangs within 5 seconds, not 15")
    kinds = list(dict.fromkeys(harm.kind for harm in harms()))
    parser.add_argument("--harm", action="append", choices=kinds, help="any number of them; all by default")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(NAMES):
        parser.error(f"no such process: {', '.join(unknown)}")
    sys.exit(
        0 if asyncio.run(main(chosen.names or NAMES, chosen.harm or kinds, TIGHT if chosen.tight else DEFAULT)) else 1
    )
