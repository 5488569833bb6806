"""Everything on one machine: Redis, vision service, LLM service and gateway as processes.

    async with Stack(StackOptions(model="OpenGVLab/InternVL3-1B")) as stack:
        ... ChatClient(stack.address) ...

If one process dies, the rest is stopped and ServiceDied says which it was and what it logged last. On the way out they
are stopped one after the other, the gateway first, so that replies in flight still end.
"""

import asyncio
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from deploy.local.options import DEMO_MODEL, StackOptions
from deploy.local.process import Child, LaunchError, ServiceDied
from deploy.local.progress import StartDisplay
from deploy.local.redis_server import start_redis
from internvl.transport.tasks import first_failure

PROGRAMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "vision": (sys.executable, "-m", "vision_service"),
        "llm": (sys.executable, "-m", "llm_service"),
        "gateway": (sys.executable, "-m", "gateway"),
    }
)


def programs_with_vllm(python: str) -> Mapping[str, tuple[str, ...]]:
    """The LLM service on vLLM, in the environment of that Python."""
    return MappingProxyType({**PROGRAMS, "llm": (python, "-m", "llm_service", "--engine", "vllm")})


# Without these, glibc maps and unmaps every message of some MiB, which costs more than sending it.
_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "536870912",
    "MALLOC_TRIM_THRESHOLD_": "536870912",
    "MALLOC_TOP_PAD_": "67108864",
}
_KILL_SECONDS = 2.0
"""Seconds that a process gets beyond its drain time."""


class Stack:
    """The processes while its context lasts."""

    def __init__(
        self,
        options: StackOptions,
        *,
        on_change: Callable[[Child], None] | None = None,
        programs: Mapping[str, tuple[str, ...]] = PROGRAMS,
    ) -> None:
        self._options = options
        self._on_change = on_change
        self._programs = programs
        self._children: dict[str, Child] = {}
        self._lifetime = self._run()

    async def __aenter__(self) -> Self:
        await self._lifetime.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._lifetime.__aexit__(kind, error, trace)

    @property
    def address(self) -> str:
        """host:port of the gateway."""
        return self._children["gateway"].address

    @property
    def http_address(self) -> str:
        """host:port of the OpenAI-compatible endpoint; empty if there is none."""
        return self._children["gateway"].http_address

    @property
    def children(self) -> dict[str, Child]:
        """The processes by name, in the order they were started."""
        return dict(self._children)

    @asynccontextmanager
    async def _run(self) -> AsyncIterator[None]:
        try:
            async with AsyncExitStack() as exit_stack:
                folder = Path(exit_stack.enter_context(tempfile.TemporaryDirectory(prefix="internvl-")))
                group = await exit_stack.enter_async_context(asyncio.TaskGroup())
                exit_stack.push_async_callback(self._stop)
                await self._start(group, folder)
                yield
        except BaseExceptionGroup as failures:
            raise _cause(failures) from None

    async def _start(self, group: asyncio.TaskGroup, folder: Path) -> None:
        """Returns when a chat would be answered. A process that dies meanwhile cancels this through the group."""
        options = self._options
        logs = options.log_folder or folder
        logs.mkdir(parents=True, exist_ok=True)
        redis_url = options.redis_url
        if redis_url is None:
            redis, redis_url = await start_redis(folder, log_folder=logs)
            self._adopt(redis, group)
            await redis.ready()
        model = ["--model", options.model, "--port", "0"]
        if options.model_name:
            model += ["--model-name", options.model_name]
        # In the environment, because everyone may see the flags of a process, and a URL may hold a password.
        vision = await self._spawn("vision", model, logs, group, INTERNVL_VISION_REDIS_URL=redis_url)
        llm = await self._spawn("llm", model, logs, group, INTERNVL_LLM_REDIS_URL=redis_url)
        await vision.ready()
        await llm.ready()
        public = ["--host", options.host, "--port", str(options.port)]
        if options.http_port is not None:
            public += ["--http-port", str(options.http_port)]
        backends = ["--vision-address", vision.address, "--llm-address", llm.address]
        gateway = await self._spawn("gateway", public + backends, logs, group)
        await gateway.ready()
        await gateway.agreement

    async def _spawn(
        self, name: str, flags: Sequence[str], logs: Path, group: asyncio.TaskGroup, **environment: str
    ) -> Child:
        common = ["--metrics-port", "0", "--drain-seconds", str(self._options.drain_seconds)]
        if self._options.otlp_endpoint:
            common += ["--otlp-endpoint", self._options.otlp_endpoint]
        command = (*self._programs[name], *flags, *common)
        child = await Child.start(
            name, command, log_folder=logs, environment=_ENVIRONMENT | self._options.environment(name) | environment
        )
        self._adopt(child, group)
        return child

    def _adopt(self, child: Child, group: asyncio.TaskGroup) -> None:
        self._children[child.name] = child
        if self._on_change is not None:
            child.on_change = self._on_change
            self._on_change(child)
        group.create_task(child.watch())

    async def _stop(self) -> None:
        seconds = self._options.drain_seconds + _KILL_SECONDS
        async with AsyncExitStack() as stops:
            for name in ("redis", "vision", "llm", "gateway"):  # the last one in is the first one out
                if name in self._children:
                    stops.push_async_callback(self._children[name].stop, seconds)


def serve_until_stopped(options: StackOptions, *, programs: Mapping[str, tuple[str, ...]] = PROGRAMS) -> None:
    """Runs the stack in front of a terminal until Ctrl-C or SIGTERM. Exits with 1 and the cause when it cannot run."""
    try:
        asyncio.run(_serve(options, programs))
    except LaunchError as error:
        sys.exit(f"error: {error}")
    except (KeyboardInterrupt, asyncio.CancelledError):
        return


async def _serve(options: StackOptions, programs: Mapping[str, tuple[str, ...]]) -> None:
    require_model(options)
    cancel_on_sigterm()
    with StartDisplay() as display:
        async with Stack(options, on_change=display.show, programs=programs) as stack:
            lines = [f"chat   internvl chat --address {stack.address}"]
            if stack.http_address:
                lines.append(f"http   http://{stack.http_address}/v1 for clients of OpenAI's API")
            lines.append("stop   Ctrl-C")
            display.finish("".join(f"\n  {line}" for line in lines))
            await asyncio.Event().wait()


def cancel_on_sigterm() -> None:
    """SIGTERM cancels the current task, as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def require_model(options: StackOptions) -> None:
    """Raises LaunchError when the demo model is wanted and not there."""
    if options.model == str(DEMO_MODEL) and not DEMO_MODEL.is_dir():
        raise LaunchError(f"the demo model is not at {DEMO_MODEL}; name another one with --model")


def _cause(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure that ended the stack: a dead process before all else, since other failures follow from it."""
    return first_failure(failures.subgroup(ServiceDied) or failures)
