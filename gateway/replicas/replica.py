"""One replica of a service: its channel, its health, its calls in flight."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.replicas.calls import translated
from gateway.replicas.health import ReplicaHealth
from internvl.common.v1.visual_pb2 import ModelInfo
from internvl.errors import InternvlError

Stub = TypeVar("Stub")
CHECK_TIMEOUT_SECONDS = 5.0


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
