"""Vision processes that can be killed and return."""

import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc

from deploy.local.process import Child
from internvl.transport.channel import open_channel

MESSAGE_BYTES = 64 << 20


class Replicas:
    """Vision processes that can be killed and come back."""

    def __init__(
        self, count: int, checkpoint: Path, redis_url: str, folder: Path, *, flags: Sequence[str] = ()
    ) -> None:
        self._checkpoint, self._redis_url, self._folder, self._flags = checkpoint, redis_url, folder, flags
        self._children: list[Child | None] = [None] * count
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def start(self, index: int) -> None:
        """Returns when it serves."""
        flags = ["--model", str(self._checkpoint), "--port", "0", "--drain-seconds", "5", "--threads", "1"]
        environment = {"INTERNVL_VISION_REDIS_URL": self._redis_url}
        command = [sys.executable, "-m", "vision_service", *flags, *self._flags]
        child = await Child.start(f"vision{index}", command, log_folder=self._folder, environment=environment)
        await child.ready()
        self._children[index] = child

    async def kill(self, index: int) -> None:
        """As a crash would; back at once."""
        child = self._children[index]
        if child is not None:
            self._children[index] = None
            await child.stop(0.0)
            await self.start(index)

    def any_address(self, generator: random.Random) -> str:
        return generator.choice([child.address for child in self._children if child is not None] or [""])

    def address(self, index: int) -> str:
        child = self._children[index]
        assert child is not None
        return child.address

    def log_count(self, index: int, message: str) -> int:
        """Lines of a replica's log with that message."""
        return (self._folder / f"vision{index}.log").read_text().count(f'"message": "{message}"')

    def channel(self, address: str) -> grpc.aio.Channel:
        if address not in self._channels:
            self._channels[address] = open_channel(address, max_message_bytes=MESSAGE_BYTES)
        return self._channels[address]

    def memory_bytes(self) -> int:
        """Resident memory of all of them."""
        children = [child for child in self._children if child is not None]
        return sum(_resident_bytes(child.pid) for child in children)

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()
        for child in self._children:
            if child is not None:
                await child.stop(10.0)


def _resident_bytes(process_id: int) -> int:
    try:
        return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
