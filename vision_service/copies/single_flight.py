"""Equal work wanted by many is done once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Result = TypeVar("Result")


@dataclass
class _Flight(Generic[Result]):
    task: "asyncio.Task[Result]"
    waiter_count: int = 0


class SingleFlight(Generic[Result]):
    """The work runs in a task of its own: the caller that asked first may leave, and the others still get the result.

    When no caller is left, the work is cancelled.
    """

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[Result]] = {}

    async def run(self, key: str, work: Callable[[], Awaitable[Result]]) -> Result:
        """The result of the work under `key`, which starts unless it is under way. Its errors reach all who wait."""
        flight = self._flights.get(key)
        if flight is None:
            flight = _Flight(asyncio.ensure_future(_awaited(work)))
            self._flights[key] = flight
            flight.task.add_done_callback(lambda _: self._land(key, flight))
        flight.waiter_count += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiter_count -= 1
            if flight.waiter_count == 0 and not flight.task.done():
                self._land(key, flight)
                flight.task.cancel()

    def _land(self, key: str, flight: _Flight[Result]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


async def _awaited(work: Callable[[], Awaitable[Result]]) -> Result:
    return await work()
