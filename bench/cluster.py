"""Seven processes on this machine: two gateways, two LLM and two vision services, and Redis. Each may die and return.

async with Cluster(folder) as cluster:
    cluster.kill("llm-0", signal.SIGKILL)
    await cluster.restart("llm-0")
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from deploy.local.options import DEMO_MODEL
from deploy.local.process import Child
from deploy.local.redis_server import start_redis
from internvl.client import ChatClient
from internvl.errors import Unavailable

NAMES = ("redis", "vision-0", "vision-1", "llm-0", "llm-1", "gateway-0", "gateway-1")
START_SECONDS = 180.0
_STOP_SECONDS = 5.0
_ENVIRONMENT: Mapping[str, str] = MappingProxyType({"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"})


class Cluster:
    """The processes while its context lasts. Logs and the Redis socket are in `folder`."""

    def __init__(self, folder: Path, *, drain_seconds: float = 0.3) -> None:
        self._folder = folder
        self._drain_seconds = drain_seconds
        self._children: dict[str, Child] = {}
        self._ports = dict(zip(NAMES[1:], _free_ports(len(NAMES) - 1), strict=True))
        self._redis_url = ""
        self._dead: set[str] = set()

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._start("redis")
                await asyncio.gather(*(self._start(name) for name in NAMES[1:]))
                await self._every_gateway_answers()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    def address(self, first_gateway: int = 0) -> str:
        """Both gateways as one target, that one first."""
        ports = [self._ports[f"gateway-{(first_gateway + offset) % 2}"] for offset in range(2)]
        return "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)

    def log(self, name: str) -> str:
        """Output of a process so far."""
        return (self._folder / f"{name}.log").read_text()

    def kill(self, name: str, number: signal.Signals) -> None:
        """SIGKILL as a crash does, SIGTERM as a roll-out does."""
        self._dead.add(name)
        with suppress(ProcessLookupError):
            os.kill(self._children[name].pid, number)

    async def restart(self, name: str) -> None:
        """Ends what is left of it, starts it again, and returns when every gateway that is there answers."""
        async with asyncio.timeout(START_SECONDS):
            await self._children.pop(name).stop(_STOP_SECONDS)
            await self._start(name)
            self._dead.discard(name)
            await self._every_gateway_answers()

    async def _start(self, name: str) -> None:
        if name == "redis":
            child, self._redis_url = await start_redis(self._folder, log_folder=self._folder)
        else:
            child = await Child.start(name, self._command(name), log_folder=self._folder, environment=_ENVIRONMENT)
        self._children[name] = child
        ready = asyncio.create_task(child.ready())
        ended = asyncio.create_task(child.watch())
        await asyncio.wait([ready, ended], return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not ready.done():
            ready.cancel()
            raise RuntimeError(f"{name} did not start: {child.last_lines[-3:]}")

    def _command(self, name: str) -> list[str]:
        service = name.partition("-")[0]
        module = {"vision": "vision_service", "llm": "llm_service", "gateway": "gateway"}[service]
        flags = ["--port", str(self._ports[name]), "--drain-seconds", str(self._drain_seconds)]
        if service == "gateway":
            flags += ["--vision-address", self._addresses("vision"), "--llm-address", self._addresses("llm")]
        else:
            flags += ["--model", str(DEMO_MODEL), "--threads", "1", "--redis-url", self._redis_url]
        return [sys.executable, "-m", module, *flags]

    def _addresses(self, service: str) -> str:
        return ",".join(f"127.0.0.1:{port}" for name, port in self._ports.items() if name.startswith(service))

    async def _every_gateway_answers(self) -> None:
        alive = [name for name in NAMES if name.startswith("gateway") and name not in self._dead]
        await asyncio.gather(*map(self._answers, alive))

    async def _answers(self, name: str) -> None:
        async with ChatClient(f"127.0.0.1:{self._ports[name]}") as client:
            while True:
                try:
                    await client.model_info()
                    return
                except Unavailable:
                    await asyncio.sleep(0.1)

    async def _stop(self) -> None:
        await asyncio.gather(*(child.stop(_STOP_SECONDS) for child in self._children.values()))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
