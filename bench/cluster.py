"""Seven processes on this machine: two gateways, two LLM and two vision services, and Redis. Each may die and return.

async with Cluster(folder) as cluster:
    cluster.kill("llm-0", signal.SIGKILL)
    await cluster.restart("llm-0")
    cluster.hold("vision-0")  # hangs
    cluster.release("vision-0")
    cluster.hang_step()  # of HANGING: its model does not return
    cluster.proxies["llm-1"].fault = Fault.BLACK_HOLE
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from deploy.local.options import DEMO_MODEL
from deploy.local.process import Child
from deploy.local.redis_server import start_redis
from internvl.client import ChatClient
from internvl.errors import Unavailable
from tests.support.faulty_proxy import FaultyProxy

NAMES = ("redis", "vision-0", "vision-1", "llm-0", "llm-1", "gateway-0", "gateway-1")
HANGING = "llm-0"
"""The LLM replica whose model can be made to hang."""
PROXIED = ("llm-1", "vision-1")
"""Replicas that the gateways reach through a proxy."""
START_SECONDS = 900.0
"""Far longer than a start takes: a busy machine is slow, not wrong."""
_STOP_SECONDS = 5.0
_ENVIRONMENT: Mapping[str, str] = MappingProxyType({"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"})


class Cluster:
    """The processes while its context lasts. Logs and the Redis socket are in `folder`."""

    def __init__(
        self, folder: Path, *, drain_seconds: float = 0.3, flags: Mapping[str, Sequence[str]] = MappingProxyType({})
    ) -> None:
        """`flags`: more of them for each service ("vision", "llm", "gateway")."""
        self.proxies: dict[str, FaultyProxy] = {}
        self.start_seconds = 0.0
        """How long the start took, as a measure of this machine."""
        self._flags = flags
        self._exit_stack = AsyncExitStack()
        self._folder = folder
        self._drain_seconds = drain_seconds
        self._children: dict[str, Child] = {}
        self._ports = dict(zip(NAMES[1:], _free_ports(len(NAMES) - 1), strict=True))
        self._redis_url = ""
        self._dead: set[str] = set()

    async def __aenter__(self) -> Self:
        try:
            started = time.monotonic()
            async with asyncio.timeout(START_SECONDS):
                for name in PROXIED:
                    proxy = FaultyProxy(f"127.0.0.1:{self._ports[name]}")
                    self.proxies[name] = await self._exit_stack.enter_async_context(proxy)
                await self._start("redis")
                await asyncio.gather(*(self._start(name) for name in NAMES[1:]))
                await self._every_gateway_answers()
            self.start_seconds = time.monotonic() - started
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

    def hold(self, name: str) -> None:
        """Stops it from running, as a hang does: its connections stay open."""
        os.kill(self._children[name].pid, signal.SIGSTOP)

    def release(self, name: str) -> None:
        """Lets it run on."""
        os.kill(self._children[name].pid, signal.SIGCONT)

    def hang_step(self) -> None:
        """From the next step on the model of HANGING does not return, until that process is restarted."""
        self._hang_file.touch()

    async def restart(self, name: str) -> None:
        """Ends what is left of it, starts it again, and returns when every gateway that is there answers."""
        if name == HANGING:
            self._hang_file.unlink(missing_ok=True)
        async with asyncio.timeout(START_SECONDS):
            await self._children.pop(name).stop(_STOP_SECONDS)
            await self._start(name)
            self._dead.discard(name)
            await self._every_gateway_answers()

    @property
    def _hang_file(self) -> Path:
        return self._folder / "hang"

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
        program = ["bench.hanging_llm", str(self._hang_file)] if name == HANGING else [module]
        flags = ["--port", str(self._ports[name]), "--drain-seconds", str(self._drain_seconds)]
        flags += self._flags.get(service, ())
        if service == "gateway":
            flags += ["--vision-address", self._addresses("vision"), "--llm-address", self._addresses("llm")]
        else:
            flags += ["--model", str(DEMO_MODEL), "--threads", "1", "--redis-url", self._redis_url]
        return [sys.executable, "-m", *program, *flags]

    def _addresses(self, service: str) -> str:
        ports = {name: port for name, port in self._ports.items() if name.startswith(service)}
        ports |= {name: proxy.port for name, proxy in self.proxies.items() if name in ports}
        return ",".join(f"127.0.0.1:{port}" for port in ports.values())

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
        for name in self._children:
            with suppress(ProcessLookupError):
                self.release(name)
        await asyncio.gather(*(child.stop(_STOP_SECONDS) for child in self._children.values()))
        await self._exit_stack.aclose()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
