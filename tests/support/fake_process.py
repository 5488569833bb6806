"""A fake service in a process of its own, which a test may stop as a hang does and let run on.

async with fake_process("llm", folder) as child:
    os.kill(child.pid, signal.SIGSTOP)
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

from deploy.local.process import Child
from tests.support.fakes import Context, FakeLlm, FakeVision, serving

WORD_COUNT = 100
PAUSE_SECONDS = 0.02
START_SECONDS = 120.0
"""Far longer than a start takes: a busy machine is slow, not wrong."""


@asynccontextmanager
async def fake_process(kind: Literal["llm", "vision"], folder: Path, name: str = "fake") -> AsyncIterator[Child]:
    """A fake LLM service that says WORD_COUNT words, one each PAUSE_SECONDS, or a vision service that never answers."""
    command = [sys.executable, "-m", "tests.support.fake_process", kind]
    async with running(await Child.start(name, command, log_folder=folder)) as child:
        yield child


@asynccontextmanager
async def running(child: Child) -> AsyncIterator[Child]:
    """Until it serves, and while the context lasts."""
    try:
        async with asyncio.timeout(START_SECONDS):
            await child.ready()
        yield child
    finally:
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGCONT)
        await child.stop(5.0)


class SlowLlm(FakeLlm):
    """Says one word each PAUSE_SECONDS."""

    def __init__(self) -> None:
        super().__init__()
        self.words = [f"{index} " for index in range(WORD_COUNT)]

    async def enter(self, context: Context) -> None:
        await super().enter(context)
        await asyncio.sleep(PAUSE_SECONDS)


async def _main(kind: str) -> None:
    fake: SlowLlm | FakeVision = SlowLlm()
    if kind == "vision":
        fake = FakeVision()
        fake.gate = asyncio.Event()
    async with serving(fake) as address:
        sys.stdout.write(f'{{"message": "serving", "address": "{address}"}}\n')
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
