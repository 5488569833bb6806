"""`python -m bench.gateway [chats]`: what the gateway itself costs, in front of services that take a fixed time.

cost      median time to the first token through the gateway, less that of calling the LLM service straight, in turn
chats/s   in a closed loop, and per second of the gateway's own CPU time: what one core sustains
memory    resident size of the gateway over all chats, as a plot
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import matplotlib

from deploy.local.process import Child
from internvl.chat.v1 import chat_pb2, chat_pb2_grpc
from internvl.common.v1 import visual_pb2
from internvl.llm.v1 import llm_pb2, llm_pb2_grpc

matplotlib.use("Agg")
from matplotlib import pyplot

PLOT = Path(__file__).parent.parent / "docs" / "plots" / "gateway_memory.png"
DELAY_SECONDS, TOKENS = 0.005, 8
ROUNDS = 100
READERS = 32
CHATS = 20_000
SAMPLES = 40
PICTURE = "media_" + "0" * 48


async def main(chat_count: int) -> None:
    """Prints the table, writes the plot."""
    with tempfile.TemporaryDirectory(prefix="internvl-bench-") as folder:
        delay = ["-m", "bench.fixed_delay", str(DELAY_SECONDS), str(TOKENS)]
        async with process("services", delay, Path(folder)) as services:
            flags = ["--vision-address", services.address, "--llm-address", services.address]
            command = ["-m", "gateway", "--port", "0", *flags]
            async with process("gateway", command, Path(folder)) as gateway:
                await report(gateway, services, chat_count)


async def report(gateway: Child, services: Child, chat_count: int) -> None:
    """One run of everything."""
    async with grpc.aio.insecure_channel(gateway.address) as public, grpc.aio.insecure_channel(services.address) as own:
        chat, llm = chat_pb2_grpc.ChatServiceStub(public), llm_pb2_grpc.LlmServiceStub(own)
        while not await is_ready(chat):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)

        message = llm_pb2.Message(role=visual_pb2.ROLE_USER, parts=[llm_pb2.Part(text="hello")])
        straight = llm_pb2.GenerateRequest(tenant="t", messages=[message])
        ways: list[Callable[[], AsyncIterable[Any]]] = [
            lambda: llm.Generate(straight),
            lambda: chat.Chat(request("hello")),
            lambda: chat.Chat(request("hello", picture=True)),
        ]
        medians = await in_turn(ways, ROUNDS)
        print("| | ms |")
        print("|---|---|")
        print(f"| first token, LLM service straight | {medians[0]:.2f} |")
        print(f"| the gateway's own, text | {medians[1] - medians[0]:.2f} |")
        print(f"| the gateway's own, a picture by id (with the vision call) | {medians[2] - medians[0]:.2f} |")

        sizes = [resident_mib(gateway.pid)]
        cpu, began = cpu_seconds(gateway.pid), time.monotonic()
        for _ in range(SAMPLES):
            await many(chat, chat_count // SAMPLES)
            sizes.append(resident_mib(gateway.pid))
        seconds, cpu = time.monotonic() - began, cpu_seconds(gateway.pid) - cpu
        warm = sizes[SAMPLES // 10 :]
        print(f"\n| {chat_count} chats of {TOKENS} tokens, {READERS} at a time | |")
        print("|---|---|")
        print(f"| chats/s here, three processes on {os.cpu_count()} cores | {chat_count / seconds:.0f} |")
        print(f"| chats per second of the gateway's CPU time | {chat_count / cpu:.0f} |")
        print(
            f"| memory at the start, after a tenth, at the end, MiB | {sizes[0]:.1f}, {warm[0]:.1f}, {sizes[-1]:.1f} |"
        )
        plot(sizes, chat_count)


async def in_turn(ways: list[Callable[[], AsyncIterable[Any]]], rounds: int) -> list[float]:
    """Median time to the first token of each in milliseconds."""
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, taken in zip(ways, seconds, strict=True):
            taken.append(await first_token_seconds(way()))
    return [1000 * statistics.median(each[rounds // 10 :]) for each in seconds]


async def many(chat: "chat_pb2_grpc.ChatServiceAsyncStub", count: int) -> None:
    """Runs that many chats, every other one with an image."""
    numbers = iter(range(count))

    async def reader() -> None:
        for number in numbers:
            events = [event async for event in chat.Chat(request(f"hello {number}", picture=number % 2 == 0))]
            assert events[-1].finished.usage.completion_token_count == TOKENS

    await asyncio.gather(*(reader() for _ in range(READERS)))


def request(text: str, *, picture: bool = False) -> chat_pb2.ChatRequest:
    """A question, with or without an image."""
    parts = [chat_pb2.Part(text=text)]
    if picture:
        parts.insert(0, chat_pb2.Part(image=chat_pb2.Image(id=PICTURE)))
    return chat_pb2.ChatRequest(messages=[chat_pb2.Message(role=visual_pb2.ROLE_USER, parts=parts)])


async def first_token_seconds(events: AsyncIterable[Any]) -> float:
    """From now until the first token; the reply is read to its end, so that nothing of it meets the next one."""
    began, seconds = time.perf_counter(), 0.0
    async for event in events:
        if event.HasField("delta") and not seconds:
            seconds = time.perf_counter() - began
    return seconds


async def is_ready(chat: "chat_pb2_grpc.ChatServiceAsyncStub") -> bool:
    """Whether chats are answered yet."""
    try:
        await chat.GetModelInfo(chat_pb2.GetModelInfoRequest())
    except grpc.aio.AioRpcError:
        return False
    return True


@asynccontextmanager
async def process(name: str, arguments: list[str], folder: Path) -> AsyncIterator[Child]:
    """A Python program that says where it serves."""
    child = await Child.start(name, [sys.executable, *arguments], log_folder=folder)
    try:
        await child.ready()
        yield child
    finally:
        await child.stop(5.0)


def resident_mib(pid: int) -> float:
    """Resident size of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def plot(sizes: list[float], chat_count: int) -> None:
    """Memory over chats."""
    figure, axes = pyplot.subplots(figsize=(7, 3))
    axes.plot([chat_count * index / SAMPLES for index in range(len(sizes))], sizes)
    axes.set(xlabel="chats answered", ylabel="resident size, MiB", title="Memory of the gateway", ylim=(0, None))
    figure.tight_layout()
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PLOT, dpi=120)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else CHATS))
