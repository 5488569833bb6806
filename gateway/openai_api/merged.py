"""Several streams of events as one."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

from internvl.transport.tasks import stop

Event = TypeVar("Event")


async def merged(streams: Sequence[AsyncGenerator[Event, None]]) -> AsyncGenerator[tuple[int, Event], None]:
    """Events of all streams with their stream's index, as they come. The first failure stops all, and is raised.

    A reader who is slow holds all streams up, each at its next event. The end of a stream, or its failure, waits for no
    reader: so nothing that a stream does keeps it from ending.
    """
    arrived: asyncio.Queue[tuple[int, Event] | asyncio.Task[None]] = asyncio.Queue()
    room = asyncio.Semaphore(1)  # for an event that no reader has taken; whichever stream waits longest is next

    async def follow(index: int, stream: AsyncGenerator[Event, None]) -> None:
        async with aclosing(stream):
            async for event in stream:
                await room.acquire()
                arrived.put_nowait((index, event))

    tasks = [asyncio.create_task(follow(index, stream)) for index, stream in enumerate(streams)]
    for task in tasks:
        task.add_done_callback(arrived.put_nowait)
    running = len(tasks)
    try:
        while running:
            arrival = await arrived.get()
            if isinstance(arrival, asyncio.Task):
                arrival.result()
                running -= 1
            else:
                room.release()
                yield arrival
    finally:
        await stop(tasks)
        for task in tasks:
            task.cancelled() or task.exception()  # retrieved: what else failed needs no line in the log
