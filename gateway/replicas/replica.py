"""One replica of a service: its channel, its health, its calls in flight."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.replicas.health import ReplicaHealth, Report
from internvl.errors import InternvlError
from internvl.transport.status import translated

Stub = TypeVar("Stub")


class Cancellable(Protocol):
    """A call of gRPC."""

    def cancel(self) -> bool: ...


class CallInFlight:
    """A call to a replica, and when it last brought anything."""

    def __init__(self, call: Cancellable) -> None:
        self._call = call
        self._heard_at = time.monotonic()

    @property
    def silent_seconds(self) -> float:
        return time.monotonic() - self._heard_at

    def heard(self) -> None:
        """An event came."""
        self._heard_at = time.monotonic()

    def end(self) -> None:
        """Fails with BackendUnavailable where it is awaited."""
        self._call.cancel()


class Replica(Generic[Stub]):
    """One address. Its channel is closed when it is retired and its last call has ended."""

    def __init__(
        self,
        address: str,
        channel: grpc.aio.Channel,
        stub: Stub,
        health: ReplicaHealth,
        *,
        check_timeout_seconds: float,
    ) -> None:
        self.address = address
        self.stub = stub
        self.health = health
        self._channel = channel
        self._check_timeout_seconds = check_timeout_seconds
        self._checker = health_pb2_grpc.HealthStub(channel)
        self._calls: set[CallInFlight] = set()
        self._doubt = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def in_flight_count(self) -> int:
        """Calls that have not ended."""
        return len(self._calls)

    @contextmanager
    def calling(self, call: Cancellable) -> Iterator[CallInFlight]:
        """Counts a call while the context lasts, which cancels it at its end. Its errors become ours."""
        in_flight = CallInFlight(call)
        self._calls.add(in_flight)
        self._idle.clear()
        try:
            with translated():
                yield in_flight
        finally:
            call.cancel()
            self._calls.discard(in_flight)
            if not self._calls:
                self._idle.set()

    def call_failed(self) -> None:
        """Ejects it, and has it checked at once."""
        self.health.call_failed(time.monotonic())
        self._doubt.set()

    def end_silent_calls(self) -> int:
        """Ends the calls that bring nothing; returns how many. For a replica that is silent or stalled.

        Half the time of a check is enough: what came before the check began says nothing of now.
        """
        silent = [call for call in self._calls if call.silent_seconds > self._check_timeout_seconds / 2]
        for call in silent:
            call.end()
        return len(silent)

    async def check(self, ask: Callable[[Stub], Awaitable[Report]]) -> None:
        """Asks whether it serves, and what."""
        begun = time.monotonic()
        try:
            async with asyncio.timeout(self._check_timeout_seconds):
                with translated():
                    report = await ask(self.stub) if await self._is_serving() else None
        except TimeoutError:
            if time.monotonic() - begun < 2 * self._check_timeout_seconds:  # else it was this process that stood still
                self.health.check_missed()
        except InternvlError:
            self.health.check_refused()
        else:
            if report is None:
                self.health.check_refused()
            else:
                self.health.check_passed(report, time.monotonic())

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

    async def idle(self) -> None:
        """Returns when it has no call in flight."""
        await self._idle.wait()

    async def close(self) -> None:
        """Ends all calls."""
        await self._channel.close()
