"""Equal work wanted on several replicas is done on one: the others wait for its result in the store.

A replica that wants to work takes a lease in the store, a name with a token of its own and a short life, and renews it
until its result can be found there. The others ask now and then whether the lease is still held.

    the holder's work fails or is cancelled    it gives the lease back, and another takes it
    the holder dies                            its lease ends by itself
    it takes longer than `wait_seconds`        who waited works by itself
    the store does not answer                  everyone works by itself

Working twice costs time and nothing else, so nothing here has to be certain.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from internvl.errors import StoreUnavailable
from shared.store.value_store import ValueStore

Result = TypeVar("Result")
Done = tuple[Result, "asyncio.Future[bool]"]
"""A result, and when it can be found in the store, or cannot be."""

_FIRST_POLL_SECONDS, _LAST_POLL_SECONDS = 0.01, 0.25


class ReplicaFlight(Generic[Result]):
    """One replica's side of it. Wants SingleFlight in front: it knows nothing of equal work on its own replica."""

    def __init__(self, values: ValueStore, *, wait_seconds: float, lease_seconds: float = 5.0) -> None:
        self._values = values
        self._wait_seconds = wait_seconds
        self._lease_seconds = lease_seconds
        self._held: set[asyncio.Task[None]] = set()

    async def run(
        self, key: str, work: Callable[[], Awaitable[Done[Result]]], find: Callable[[], Awaitable[Result | None]]
    ) -> Result:
        """The result of `work` here, or what `find` finds once another replica has done it."""
        lease, written = None, None
        try:
            try:
                async with asyncio.timeout(self._wait_seconds):
                    pause = _FIRST_POLL_SECONDS
                    while lease is None:
                        lease = await self._take(f"internvl:lease:{{{key}}}")
                        if (found := await find()) is not None:
                            return found
                        if lease is None:
                            await asyncio.sleep(pause)
                            pause = min(2 * pause, _LAST_POLL_SECONDS)
            except (StoreUnavailable, TimeoutError):
                pass
            result, written = await work()
            return result
        finally:
            if lease is not None:
                lease.until(written)

    async def close(self) -> None:
        """Waits until all leases are given back."""
        while self._held:
            await asyncio.wait(self._held)

    async def _take(self, name: str) -> "_Lease | None":
        token = uuid.uuid4().bytes  # not one a replica: only this lease may give it back
        if not await self._values.acquire(name, token, self._lease_seconds):
            return None
        lease = _Lease()
        task = asyncio.create_task(self._renew(name, token, lease))
        self._held.add(task)
        task.add_done_callback(self._held.discard)
        return lease

    async def _renew(self, name: str, token: bytes, lease: "_Lease") -> None:
        try:
            while not await lease.ends_within(self._lease_seconds / 3):
                await self._values.acquire(name, token, self._lease_seconds)
            await self._values.release(name, token)
        except StoreUnavailable:
            return


class _Lease:
    """Held until its work is given up, or its result can be found."""

    def __init__(self) -> None:
        self._ended = asyncio.Event()

    def until(self, written: "asyncio.Future[bool] | None") -> None:
        if written is None:
            self._ended.set()
        else:
            written.add_done_callback(lambda _: self._ended.set())

    async def ends_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            return False
        return True
