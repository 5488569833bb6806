"""Work that does not return is noticed; slow work, idle time and a process that was stopped are not taken for it."""

import asyncio
import time

import pytest

from shared.serving.watchdog import Watchdog

LIMIT = 0.2


async def is_overdue_within(watchdog: Watchdog, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            assert "has not returned" in await watchdog.overdue()
    except TimeoutError:
        return False
    return True


def used() -> Watchdog:
    """One whose first piece is over."""
    watchdog = Watchdog(LIMIT)
    with watchdog.work():
        assert watchdog.age_seconds >= 0
    return watchdog


async def test_a_piece_that_does_not_return_is_overdue() -> None:
    watchdog = used()
    assert watchdog.age_seconds == 0
    with watchdog.work():
        started = time.monotonic()
        assert await is_overdue_within(watchdog, 20)
        assert time.monotonic() - started >= LIMIT
        assert watchdog.age_seconds > LIMIT


async def test_many_short_pieces_are_not_one_long() -> None:
    watchdog = used()
    watching = asyncio.create_task(is_overdue_within(watchdog, 3 * LIMIT))
    while not watching.done():
        with watchdog.work():
            await asyncio.sleep(LIMIT / 10)
    assert not await watching


async def test_idle_is_not_overdue() -> None:
    assert not await is_overdue_within(used(), 2 * LIMIT)


async def test_the_first_piece_may_take_longer() -> None:
    watchdog = Watchdog(LIMIT)
    with watchdog.work():
        assert not await is_overdue_within(watchdog, 2 * LIMIT)
        assert await is_overdue_within(watchdog, 30)


async def test_a_stopped_process_is_not_overdue_when_it_continues() -> None:
    watchdog = used()
    with watchdog.work():
        watching = asyncio.create_task(is_overdue_within(watchdog, 3 * LIMIT))
        await asyncio.sleep(LIMIT / 4)
        time.sleep(2 * LIMIT)  # noqa: ASYNC251 - the whole process stands still
        await asyncio.sleep(LIMIT / 4)
    assert not await watching


@pytest.mark.parametrize("error", [None, RuntimeError("out of memory")])
async def test_a_piece_that_fails_is_over(error: Exception | None) -> None:
    watchdog = Watchdog(LIMIT)
    try:
        with watchdog.work():
            if error is not None:
                raise error
    except RuntimeError:
        pass
    assert watchdog.age_seconds == 0
