"""The command line against a gateway, as a user runs it."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest
import typer

from gateway.tenancy.key_file import KeyFile, key_digest
from internvl.cli.options import parse_increment
from internvl.errors import ImageUnreadable
from tests.support.fakes import FakeLlm, FakeVision


async def internvl(*arguments: str, typed: str = "") -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "internvl.cli.main", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate(typed.encode())
    return process.returncode or 0, output.decode(), errors.decode()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(b"picture")
    return path


async def test_ask_writes_only_the_answer(gateway: str, picture: Path, llm: FakeLlm) -> None:
    arguments = ("--image", str(picture), "--image", str(picture), "--increment", "1/4", "--address", gateway)
    code, output, errors = await internvl("ask", "how many?", *arguments)
    assert (code, output, errors) == (0, "two circles\n", "")
    (request,) = llm.requests
    assert [part.WhichOneof("part") for part in request.messages[0].parts] == ["image", "image", "text"]
    assert request.visual.position_increment == 0.25


async def test_ask_reports_the_reason_on_standard_error(gateway: str, picture: Path, vision: FakeVision) -> None:
    vision.failures = [ImageUnreadable("not a picture we can read")]
    code, output, errors = await internvl("ask", "how many?", "--image", str(picture), "--address", gateway)
    assert (code, output) == (1, "")
    assert errors.startswith("IMAGE_UNREADABLE: not a picture we can read")


async def test_ask_without_a_gateway_says_so(picture: Path) -> None:
    code, output, errors = await internvl("ask", "how many?", "--address", "127.0.0.1:1")
    assert (code, output) == (1, "")
    assert errors.startswith("BACKEND_UNAVAILABLE")


async def test_chat_keeps_the_conversation(gateway: str, picture: Path, llm: FakeLlm) -> None:
    typed = f"/image {picture}\nhow many?\nand now?\n/image nowhere.png\n/quit\n"
    code, output, errors = await internvl("chat", "--address", gateway, typed=typed)
    assert (code, output) == (0, "two circles\ntwo circles\n")
    assert "InternVL3-test" in errors
    assert "there is no file nowhere.png" in errors
    assert [len(request.messages) for request in llm.requests] == [1, 3]


async def test_the_increment_can_be_changed_between_turns(gateway: str, llm: FakeLlm) -> None:
    typed = "one?\n/delta 1/4\ntwo?\n/delta auto\nthree?\n/delta x\n/delta\nfour?\n"
    code, _, errors = await internvl("chat", "--increment", "1/2", "--address", gateway, typed=typed)
    assert code == 0
    chosen = [request.visual.WhichOneof("increment") for request in llm.requests]
    assert chosen == ["position_increment", "position_increment", "auto_increment", None]
    assert [request.visual.position_increment for request in llm.requests[:2]] == [0.5, 0.25]
    assert "is none of 1, 0.25, 1/4 and auto" in errors


async def test_batch_answers_a_file(gateway: str, tmp_path: Path, llm: FakeLlm) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = ('{"id": "a", "prompt": "?"}\n', '{"id": "b"}\n')
    await asyncio.to_thread(source.write_text, "".join(lines))
    code, output, errors = await internvl("batch", str(source), str(target), "--address", gateway)
    assert (code, output, errors) == (1, "", "2 of 2 answered, 1 failed in this run\n")
    await asyncio.to_thread(source.write_text, lines[0])
    code, _, errors = await internvl("batch", str(source), str(target), "--address", gateway)
    assert (code, errors) == (0, "1 of 1 answered, 0 failed in this run\n")
    assert len(llm.requests) == 1
    code, _, _ = await internvl("batch", str(source), str(source), "--address", gateway)
    assert code == 2
    assert await asyncio.to_thread(source.read_text) == lines[0], "what is no output of ours is left as it is"


async def test_an_interrupt_stops_the_reply_and_not_the_program(gateway: str, llm: FakeLlm) -> None:
    llm.gate = asyncio.Event()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "internvl.cli.main", "chat", "--address", gateway),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"how many?\n")
    assert await process.stdout.readexactly(4) == b"two "
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(5):
        await llm.cancelled.wait()
    llm.gate = None
    output, errors = await process.communicate(b"and now?\n")
    assert (process.returncode, output) == (0, b"two circles\n")
    assert b"(stopped)" in errors
    assert [len(request.messages) for request in llm.requests] == [1, 1]


async def test_a_new_key_is_shown_with_its_line_for_the_file() -> None:
    code, output, _ = await internvl("key", "new", "acme")
    key, line = output.splitlines()
    assert code == 0
    assert KeyFile.parse(f"[tenants.acme]\n[keys]\n{line}").keys == {key_digest(key): "acme"}
    code, output, errors = await internvl("key", "new", "a b")
    assert (code, output) == (2, "")
    assert "a tenant's name is" in errors.replace("\n", " ")


async def test_version() -> None:
    code, output, _ = await internvl("version")
    assert code == 0
    assert output.count(".") >= 2


@pytest.mark.parametrize(
    ("text", "increment"), [(None, None), ("auto", "auto"), ("1", 1.0), ("0.25", 0.25), ("1/4", 0.25), ("1/256", 2**-8)]
)
def test_increments_as_people_write_them(text: str | None, increment: float | str | None) -> None:
    assert parse_increment(text) == increment


@pytest.mark.parametrize("text", ["a quarter", "1/0", "1/", "/4"])
def test_what_is_no_increment(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_increment(text)
