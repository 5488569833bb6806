"""Tasks that are stopped for certain."""

import asyncio

import pytest

from internvl.errors import BadOption, InternvlError
from internvl.transport.tasks import first_failure, stop


async def loses_one_cancellation() -> None:
    """As asyncio's task groups of Python 3.11 do."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await asyncio.sleep(60)


async def test_a_task_that_loses_a_cancellation_ends() -> None:
    tasks = [asyncio.create_task(loses_one_cancellation()), asyncio.create_task(asyncio.sleep(60))]
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await stop(tasks)
    assert all(task.cancelled() for task in tasks)


async def test_tasks_that_have_ended_are_left_alone() -> None:
    done = asyncio.create_task(asyncio.sleep(0, "result"))
    await done
    await stop([done])
    assert done.result() == "result"


def test_the_first_failure_of_nested_groups() -> None:
    error = BadOption("no", field="seed")
    group = ExceptionGroup("outer", [ExceptionGroup("inner", [error, ValueError()]), KeyError()])
    assert first_failure(group) is error


@pytest.mark.parametrize("field", ["messages[0].parts[1].image", None])
def test_an_error_at_another_field_is_a_copy(field: str | None) -> None:
    error = BadOption("no", field="seed", metadata={"a": "b"})
    error.retry_after_seconds = 2.0
    moved: InternvlError = error.at(field)
    assert type(moved) is BadOption
    assert (moved.field, moved.message, moved.metadata, moved.retry_after_seconds) == (field, "no", {"a": "b"}, 2.0)
    assert str(moved) == "no"
    assert error.field == "seed"
