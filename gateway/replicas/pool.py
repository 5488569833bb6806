"""All replicas of one service: found, checked and chosen.

Every replica has its own channel, and its own watch that asks for its health and its model. One that is silent or
stalled may hang: calls that bring nothing are ended there, and their requests try elsewhere; without an elsewhere they
wait. Ejection fails open: if every replica is ejected, all stay eligible.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic

from gateway.replicas.discovery import Discovery
from gateway.replicas.health import Report
from gateway.replicas.pairing import Identity, identity
from gateway.replicas.rendezvous import LOAD_FACTOR, choose
from gateway.replicas.replica import Replica, Stub
from gateway.replicas.retry_budget import RetryBudget
from internvl.common.v1.visual_pb2 import ModelInfo
from internvl.errors import BackendUnavailable
from internvl.transport.tasks import stop

log = logging.getLogger(__name__)


class Replicas(Generic[Stub]):
    """All replicas of a service."""

    def __init__(
        self,
        discovery: Discovery,
        connect: Callable[[str], Replica[Stub]],
        ask: Callable[[Stub], Awaitable[Report]],
        budget: RetryBudget,
        *,
        load_factor: float = LOAD_FACTOR,
    ) -> None:
        self._discovery = discovery
        self._connect = connect
        self._ask = ask
        self.budget = budget
        self._load_factor = load_factor
        self._replicas: dict[str, Replica[Stub]] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self.identity: Identity | None = None
        """Identity that a replica must serve to be chosen; None: not settled yet."""

    @property
    def all(self) -> list[Replica[Stub]]:
        return list(self._replicas.values())

    @property
    def usable_count(self) -> int:
        """Those that a request may be sent to without doubt."""
        return sum(self._fits(replica) and replica.health.is_usable for replica in self.all)

    @property
    def infos(self) -> dict[str, ModelInfo]:
        """Models of the replicas that are there, by address."""
        return {replica.address: replica.health.info for replica in self.all if replica.health.info is not None}

    @property
    def were_checked(self) -> bool:
        """Whether there are any and each was asked at least once."""
        return bool(self._replicas) and all(replica.health.was_checked for replica in self.all)

    async def watch(self, changed: Callable[[], None], *, check_seconds: float, resolve_seconds: float) -> None:
        """Keeps the set and its health up to date; tells `changed` about both. Runs until cancelled."""
        try:
            while True:
                self._update(await self._discovery.addresses(), changed, check_seconds)
                await asyncio.sleep(3600.0 if self._discovery.is_fixed else resolve_seconds * random.uniform(0.8, 1.2))
        finally:
            await stop(self._watches.values())
            self._watches.clear()

    async def close(self) -> None:
        """Ends all calls."""
        await stop(self._retiring)
        for replica in self.all:
            await replica.close()

    def choose(self, key: bytes, avoided: set[str]) -> Replica[Stub]:
        """The best there is: usable and not avoided, else one that answers, else any. Raises BackendUnavailable."""
        fitting = [replica for replica in self.all if self._fits(replica)]
        answering = [replica for replica in fitting if replica.health.is_answering]
        usable = [replica for replica in answering if replica.health.is_usable]
        tiers: Iterable[list[Replica[Stub]]] = (
            [replica for replica in usable if replica.address not in avoided],
            [replica for replica in answering if replica.address not in avoided],
            usable,
            answering,
            [replica for replica in fitting if replica.health.info is not None],
            fitting,
        )
        candidates = next(filter(None, tiers), None)
        if candidates is None:
            raise BackendUnavailable("no replica of the service is there")
        loads = {replica.address: replica.in_flight_count for replica in candidates}
        return self._replicas[choose(key, loads, load_factor=self._load_factor)]

    def has_other(self, avoided: set[str]) -> bool:
        """Whether a replica that is there was not tried yet."""
        return any(
            replica.health.info is not None and self._fits(replica) and replica.address not in avoided
            for replica in self.all
        )

    def _fits(self, replica: Replica[Stub]) -> bool:
        info = replica.health.info or replica.health.last_info
        return info is not None and (self.identity is None or identity(info) == self.identity)

    def _update(self, addresses: Iterable[str], changed: Callable[[], None], check_seconds: float) -> None:
        wanted = set(addresses)
        for address in self._replicas.keys() - wanted:
            log.info("a replica is gone", extra={"address": address})
            retiring = asyncio.create_task(_retire(self._replicas.pop(address), self._watches.pop(address)))
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)
            changed()
        for address in sorted(wanted - self._replicas.keys()):
            replica = self._replicas[address] = self._connect(address)
            self._watches[address] = asyncio.create_task(self._watch(replica, changed, check_seconds))

    async def _watch(self, replica: Replica[Stub], changed: Callable[[], None], check_seconds: float) -> None:
        while True:
            before = (replica.health.info, replica.health.was_checked)
            await replica.check(self._ask)
            if before != (replica.health.info, replica.health.was_checked):
                changed()
            if replica.health.is_silent or replica.health.is_stalled:
                self._end_silent_calls(replica)
            await replica.wait(check_seconds)

    def _end_silent_calls(self, replica: Replica[Stub]) -> None:
        others = [other for other in self.all if other is not replica and self._fits(other) and other.health.is_usable]
        if others and (count := replica.end_silent_calls()):
            doing = "replica is stalled" if replica.health.is_stalled else "replica does not answer"
            log.warning(doing, extra={"address": replica.address, "moved_call_count": count})


async def _retire(replica: Replica[Stub], watch: asyncio.Task[None]) -> None:
    """Lets its calls end, watched as before, then closes the channel."""
    try:
        await replica.idle()
    finally:
        await stop([watch])
        await replica.close()
