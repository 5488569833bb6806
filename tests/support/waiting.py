"""Waiting for what another task or process does, without saying how long that takes."""

import asyncio
import time
from collections.abc import Callable


async def until(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
    """Returns when the condition holds; fails when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen: {what}"
        await asyncio.sleep(0.001)
