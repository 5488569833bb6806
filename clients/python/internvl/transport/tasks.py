"""Tasks that are stopped for certain, and the failure that a group of tasks is about."""

import asyncio
from collections.abc import Iterable
from typing import Any, TypeVar

Failure = TypeVar("Failure", bound=BaseException)
_PATIENCE_SECONDS = 1.0


async def stop(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels tasks and returns when all have ended, however.

    One cancellation is not enough: asyncio drops it where a task group inside the task fails in the same moment
    (Python 3.11 and 3.12, cpython gh-116720), and the task runs on. So those that have not ended are cancelled again.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_PATIENCE_SECONDS)


def first_failure(group: BaseExceptionGroup[Failure]) -> Failure:
    """The first failure that the group holds, however deep: what it is reported as where one error is expected."""
    failure: Failure | BaseExceptionGroup[Failure] = group
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure
