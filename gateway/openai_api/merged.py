"""Several streams of events as one."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

Event = TypeVar("Event")


async def merged(streams: Sequence[AsyncGenerator[Event, None]]) -> AsyncGenerator[tuple[int, Event], None]:
    """Events of all streams with their stream's index, as they come. The first failure stops all, and is raised.

    A reader who is slow holds all streams up, each at its next event.
    """
    events: asyncio.Queue[tuple[int, Event | Exception | None]] = asyncio.Queue(1)  # one: whoever waits longest is next

    async def follow(index: int, stream: AsyncGenerator[Event, None]) -> None:
        try:
            async with aclosing(stream):
                async for event in stream:
                    await events.put((index, event))
            await events.put((index, None))
        except Exception as error:  # noqa: BLE001 - raised again by whoever reads
            await events.put((index, error))

    tasks = [asyncio.create_task(follow(index, stream)) for index, stream in enumerate(streams)]
    running = len(tasks)
    try:
        while running:
            index, event = await events.get()
            if isinstance(event, Exception):
                raise event
            if event is None:
                running -= 1
            else:
                yield index, event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
