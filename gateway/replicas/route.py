"""One request's way through the replicas of a service: which to call now, and whether to try again after a failure."""

import asyncio
from typing import Generic

from gateway.metrics import REPEATED_CALLS
from gateway.replicas.pool import Replicas
from gateway.replicas.replica import Replica, Stub
from internvl.errors import (
    BackendUnavailable,
    InternvlError,
    MediaExpired,
    ResourceExhausted,
    StoreUnavailable,
    Unavailable,
)
from internvl.transport.deadline import Deadline
from internvl.transport.pauses import pause_seconds

MAX_ATTEMPTS = 6
"""Calls of one request without any progress."""


class Route(Generic[Stub]):
    """One request's way through the replicas of a service."""

    def __init__(self, replicas: Replicas[Stub], key: bytes) -> None:
        """The request counts towards the retry budget."""
        replicas.budget.deposit()
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
