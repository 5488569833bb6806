"""The replicas of one service: found, checked, chosen, and left alone for a while when they fail.

Every replica has its own channel, and its own watch that asks for its health and its model. A request takes a `Route`:
the replica its key belongs to, and after a failure another one. Nobody is left without a replica for caution's sake:
when all are ejected, all are asked.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.calls import translated
from gateway.deadline import Deadline
from gateway.discovery import Discovery
from gateway.health import ReplicaHealth
from gateway.metrics import REPEATED_CALLS
from gateway.pairing import Identity, identity
from gateway.rendezvous import LOAD_FACTOR, choose
from gateway.retry import RetryBudget, pause_seconds
from shared.errors import (
    BackendUnavailable,
    InternvlError,
    MediaExpired,
    ResourceExhausted,
    StoreUnavailable,
    Unavailable,
)
from shared.pb.internvl.common.v1.visual_pb2 import ModelInfo

log = logging.getLogger(__name__)
Stub = TypeVar("Stub")

CHECK_TIMEOUT_SECONDS = 5.0
MAX_ATTEMPTS = 6
"""Calls of one request without any progress."""


class Replica(Generic[Stub]):
    """One address. Its channel is closed when it is retired and its last call has ended."""

    def __init__(self, address: str, channel: grpc.aio.Channel, stub: Stub) -> None:
        self.address = address
        self.stub = stub
        self.health = ReplicaHealth()
        self.in_flight = 0
        self._channel = channel
        self._checker = health_pb2_grpc.HealthStub(channel)
        self._doubt = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def call(self) -> Iterator[None]:
        """Counts a call."""
        self.in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.in_flight -= 1
            if self.in_flight == 0:
                self._idle.set()

    def call_failed(self) -> None:
        """Ejects it, and has it checked at once."""
        self.health.call_failed(time.monotonic())
        self._doubt.set()

    async def check(self, ask: Callable[[Stub], Awaitable[ModelInfo]]) -> None:
        """Asks whether it serves, and what."""
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
                with translated():
                    info = await ask(self.stub) if await self._is_serving() else None
        except TimeoutError:
            self.health.check_failed(refused=False)
        except InternvlError:
            self.health.check_failed(refused=True)
        else:
            if info is None:
                self.health.check_failed(refused=True)
            else:
                self.health.check_passed(info, time.monotonic())

    async def _is_serving(self) -> bool:
        response = await self._checker.Check(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

    async def wait(self, seconds: float) -> None:
        """Until the next check is due: after about `seconds`, at the end of an ejection, or on a failed call."""
        self._doubt.clear()
        left = self.health.seconds_until_return(time.monotonic())
        pause = seconds * random.uniform(0.8, 1.2)
        try:
            async with asyncio.timeout(pause if left is None else min(pause, left + 0.01)):
                await self._doubt.wait()
        except TimeoutError:
            return

    async def retire(self) -> None:
        """Lets its calls end, then closes the channel."""
        await self._idle.wait()
        await self._channel.close()

    async def close(self) -> None:
        await self._channel.close()


class Replicas(Generic[Stub]):
    """All replicas of a service."""

    def __init__(
        self,
        discovery: Discovery,
        connect: Callable[[str], Replica[Stub]],
        ask: Callable[[Stub], Awaitable[ModelInfo]],
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
        """What a replica must serve to be chosen; None: nothing is settled yet."""

    @property
    def all(self) -> list[Replica[Stub]]:
        return list(self._replicas.values())

    @property
    def usable_count(self) -> int:
        """Those that a request may be sent to without doubt."""
        return sum(self._fits(replica) and replica.health.is_usable for replica in self.all)

    @property
    def infos(self) -> dict[str, ModelInfo]:
        """What those that are there serve, by address."""
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
            for task in self._watches.values():
                task.cancel()
            await asyncio.gather(*self._watches.values(), return_exceptions=True)
            self._watches.clear()

    async def close(self) -> None:
        """Ends all calls."""
        for task in self._retiring:
            task.cancel()
        for replica in self.all:
            await replica.close()

    def route(self, key: bytes) -> "Route[Stub]":
        """The way of one request. It counts towards the retry budget."""
        self.budget.deposit()
        return Route(self, key)

    def choose(self, key: bytes, avoided: set[str]) -> Replica[Stub]:
        """The best there is: usable and not avoided, else not avoided, else any. Raises BackendUnavailable."""
        fitting = [replica for replica in self.all if self._fits(replica)]
        present = [replica for replica in fitting if replica.health.info is not None]
        usable = [replica for replica in present if replica.health.is_usable]
        tiers: Iterable[list[Replica[Stub]]] = (
            [replica for replica in usable if replica.address not in avoided],
            [replica for replica in present if replica.address not in avoided],
            usable,
            present,
            fitting,
        )
        candidates = next(filter(None, tiers), None)
        if candidates is None:
            raise BackendUnavailable("no replica of the service is there")
        loads = {replica.address: replica.in_flight for replica in candidates}
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
            self._watches.pop(address).cancel()
            retiring = asyncio.create_task(self._replicas.pop(address).retire())
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
            await replica.wait(check_seconds)


class Route(Generic[Stub]):
    """One request's way through the replicas of a service."""

    def __init__(self, replicas: Replicas[Stub], key: bytes) -> None:
        self._replicas = replicas
        self._key = key
        self._tried: set[str] = set()
        self._attempt = 1

    async def replica(self, deadline: Deadline) -> Replica[Stub]:
        """The replica to call now. Waits a little for one when there is none, then raises BackendUnavailable."""
        while True:
            try:
                return self._replicas.choose(self._key, self._tried)
            except BackendUnavailable as error:
                await self._pause(error, deadline)

    def progressed(self) -> None:
        """Something came of the last call: what failed before counts no more."""
        self._attempt = 1
        self._tried.clear()

    async def again(self, replica: Replica[Stub], error: InternvlError, deadline: Deadline) -> None:
        """Returns when the request may be tried once more, elsewhere if there is an elsewhere. Else raises `error`."""
        await self._permit(replica, error, deadline)
        REPEATED_CALLS.inc()

    async def _permit(self, replica: Replica[Stub], error: InternvlError, deadline: Deadline) -> None:
        self._tried.add(replica.address)
        if isinstance(error, Unavailable):
            if not isinstance(error, StoreUnavailable):
                replica.call_failed()
            await self._pause(error, deadline)
        elif isinstance(error, MediaExpired):
            if not self._replicas.has_other(self._tried):
                raise error
        elif not (
            isinstance(error, ResourceExhausted)
            and self._replicas.has_other(self._tried)
            and self._replicas.budget.withdraw()
        ):
            raise error

    async def _pause(self, error: InternvlError, deadline: Deadline) -> None:
        if self._attempt >= MAX_ATTEMPTS or not self._replicas.budget.withdraw():
            raise error
        seconds, left = pause_seconds(self._attempt), deadline.remaining()
        self._attempt += 1
        if left is not None and left <= seconds:
            raise error
        await asyncio.sleep(seconds)
