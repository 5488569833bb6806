"""The command line against a gateway, as a user runs it."""

import asyncio
import json
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from PIL import Image

from gateway.tenancy.key_file import KeyFile, key_digest
from internvl.cli.option_groups import parse_increment
from internvl.errors import ImageUnreadable
from tests.support.fakes import FakeLlm, FakeVision


async def internvl(*arguments: str, typed: str = "") -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "internvl.cli", *arguments),
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


async def test_ask_draws_the_regions_that_the_answer_names(gateway: str, tmp_path: Path, llm: FakeLlm) -> None:
    source, target = tmp_path / "image.png", tmp_path / "out.png"
    Image.new("RGB", (200, 100), "white").save(source)
    llm.words = ["<ref>it</ref><box>[[100, 200, ", "500, 800]]</box>"]
    arguments = ("--image", str(source), "--boxes", str(target), "--address", gateway)
    code, output, errors = await internvl("ask", "where?", *arguments)
    assert (code, output, errors) == (0, "<ref>it</ref><box>[[100, 200, 500, 800]]</box>\n", "")
    with Image.open(target) as drawn:
        assert drawn.size == (200, 100)
        assert drawn.getpixel((20, 50)) != (255, 255, 255)
        assert drawn.getpixel((60, 80)) != (255, 255, 255)
        assert drawn.getpixel((60, 50)) == drawn.getpixel((150, 50)) == (255, 255, 255)


async def test_boxes_take_one_image(gateway: str, picture: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    arguments = ("--image", str(picture), "--image", str(picture), "--boxes", str(target), "--address", gateway)
    code, _, errors = await internvl("ask", "where?", *arguments)
    assert code == 2
    assert "one image" in errors
    assert not target.exists()


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
    assert "cannot read nowhere.png: No such file or directory" in errors
    assert [len(request.messages) for request in llm.requests] == [1, 3]


async def test_the_increment_can_be_changed_between_turns(gateway: str, llm: FakeLlm) -> None:
    typed = "one?\n/delta 1/4\ntwo?\n/delta auto\nthree?\n/delta x\n/delta\nfour?\n"
    code, _, errors = await internvl("chat", "--increment", "1/2", "--address", gateway, typed=typed)
    assert code == 0
    chosen = [request.visual.WhichOneof("increment") for request in llm.requests]
    assert chosen == ["position_increment", "position_increment", "auto_increment", None]
    assert [request.visual.position_increment for request in llm.requests[:2]] == [0.5, 0.25]
    assert "is none of 1, 1/2, 1/4, ... 1/256 and auto" in errors


async def test_batch_answers_a_file(gateway: str, tmp_path: Path, llm: FakeLlm) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = ('{"id": "a", "prompt": "?"}\n', '{"id": "b"}\n')
    await asyncio.to_thread(source.write_text, "".join(lines))
    code, output, errors = await internvl("batch", str(source), str(target), "--address", gateway)
    assert (code, output, errors) == (1, "", f"1 of 2 answered, 1 failed: b (their errors are in {target})\n")
    await asyncio.to_thread(source.write_text, lines[0])
    code, _, errors = await internvl("batch", str(source), str(target), "--address", gateway)
    assert (code, errors) == (0, "1 of 1 answered\n")
    assert len(llm.requests) == 1
    code, _, _ = await internvl("batch", str(source), str(source), "--address", gateway)
    assert code == 2
    assert await asyncio.to_thread(source.read_text) == lines[0], "a file that is no output of ours is left unchanged"


async def test_an_interrupt_stops_the_reply_and_not_the_program(gateway: str, llm: FakeLlm) -> None:
    llm.gate = asyncio.Event()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "internvl.cli", "chat", "--address", gateway),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"how many?\n")
    assert await process.stdout.readexactly(4) == b"two "
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(60):
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


@pytest.mark.parametrize("arguments", [["--version"], ["-V"], ["version"]])
async def test_version(arguments: list[str]) -> None:
    code, output, errors = await internvl(*arguments)
    assert (code, output, errors) == (0, f"{version('internvl-client')}\n", "")


@pytest.mark.parametrize("flag", ["-h", "--help"])
async def test_help_is_whole(flag: str) -> None:
    code, output, _ = await internvl(flag)
    assert code == 0
    assert all(name in output for name in ("ask", "batch", "chat", "health", "key", "plan", "up", "version"))
    code, output, _ = await internvl("key", "new", flag)
    assert code == 0
    assert "below [keys] in the key file" in " ".join(output.split())


async def test_completion_names_commands_that_are_not_imported() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "internvl.cli"),
        env={**os.environ, "_INTERNVL_COMPLETE": "complete_bash", "COMP_WORDS": "internvl ", "COMP_CWORD": "1"},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert {"ask", "up"} <= set(output.decode().split())


async def test_ask_reads_the_question_from_standard_input(gateway: str, llm: FakeLlm) -> None:
    code, output, _ = await internvl("ask", "-", "--address", gateway, typed="how\nmany?\n")
    assert (code, output) == (0, "two circles\n")
    assert llm.requests[0].messages[-1].parts[0].text == "how\nmany?"
    code, output, errors = await internvl("ask", "-", "--address", gateway, typed=" \n")
    assert (code, output) == (2, "")
    assert "the question is empty" in errors


async def test_ask_takes_videos_instructions_and_sampling(gateway: str, picture: Path, llm: FakeLlm) -> None:
    options = ("--system", "be brief", "--seed", "7", "--top-p", "0.5", "--stop", "a", "--stop", "b", "--timeout", "60")
    code, _, errors = await internvl("ask", "what happens?", "--video", str(picture), *options, "--address", gateway)
    assert (code, errors) == (0, "")
    (request,) = llm.requests
    assert [part.WhichOneof("part") for part in request.messages[-1].parts] == ["video", "text"]
    assert request.messages[0].parts[0].text == "be brief"
    sampling = request.sampling
    assert (sampling.seed, sampling.top_p, list(sampling.stop)) == (7, 0.5, ["a", "b"])


async def test_ask_writes_json(gateway: str, picture: Path) -> None:
    code, output, _ = await internvl("ask", "how many?", "--image", str(picture), "--json", "--address", gateway)
    reply = json.loads(output)
    assert code == 0
    assert (reply["text"], reply["model"], reply["finish_reason"]) == ("two circles", "InternVL3-test", "stop")
    assert reply["media"][0]["tile_count"] > 0
    assert reply["usage"]["prompt_token_count"] > 0


@pytest.mark.parametrize("command", [("ask", "?", "--address"), ("batch", __file__, "x", "--address"), ("health",)])
async def test_a_url_is_no_address(command: tuple[str, ...]) -> None:
    code, output, errors = await internvl(*command, "http://localhost:50050")
    assert (code, output) == (2, "")
    assert "is not an address: host or host:port" in " ".join(errors.split())


async def test_chat_sends_two_files_of_the_same_name(gateway: str, picture: Path, llm: FakeLlm) -> None:
    twin = picture.parent / "twin" / picture.name
    twin.parent.mkdir()
    twin.write_bytes(b"another")
    arguments = ("--image", str(picture), "--image", str(twin), "--address", gateway)
    code, _, _ = await internvl("chat", *arguments, typed=f"which?\n/image {picture}\n/image {twin}\nand?\n")
    assert code == 0
    sent = [[part.WhichOneof("part") for part in request.messages[-1].parts] for request in llm.requests]
    assert sent == [["image", "image", "text"]] * 2


@pytest.mark.parametrize("command", [("ask", "-"), ("chat",)])
async def test_text_that_is_not_utf_8_is_told_in_a_line(command: tuple[str, ...], gateway: str, llm: FakeLlm) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "internvl.cli", *command, "--address", gateway),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate(b"caf\xe9?\n")
    assert (output, llm.requests) == (b"", [])
    assert errors.endswith(b"text that is not UTF-8\n")
    assert b"Traceback" not in errors


async def test_an_error_is_one_line_where_no_terminal_is(picture: Path) -> None:
    _, _, errors = await internvl("ask", "how many?", "--address", "a-very-long-name-that-nothing-has.invalid:1" * 1)
    assert errors.splitlines()[0].startswith("BACKEND_UNAVAILABLE: ")
    assert len(errors.splitlines()) == 2


async def test_a_reader_that_leaves_ends_it_silently(gateway: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(
            "bash",
            "-c",
            f"'{sys.executable}' -m internvl.cli ask x --address {gateway} | true; echo ${{PIPESTATUS[0]}}",
        ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert errors == b""
    assert output.strip() in (b"141", b"0"), "0: the answer was written before the reader left"


async def test_chat_has_commands(gateway: str, picture: Path, tmp_path: Path, llm: FakeLlm) -> None:
    saved = tmp_path / "saved.json"
    typed = (
        f"/video {picture}\nwhat happens?\n/save {saved}\n/nonsense\n/delta 1/3\n/system be brief\nand?\n/clear\nnew?\n"
    )
    code, _, errors = await internvl("chat", "--address", gateway, typed=typed)
    assert code == 0
    assert "unknown command /nonsense" in errors
    assert "'1/3' is none of" in errors
    messages = [[part.WhichOneof("part") for part in request.messages[-1].parts] for request in llm.requests]
    assert messages == [["video", "text"], ["text"], ["text"]]
    assert [len(request.messages) for request in llm.requests] == [1, 2, 2], "instructions stay after /clear"
    written = json.loads(await asyncio.to_thread(saved.read_text))
    assert [message["role"] for message in written] == ["user", "assistant"]
    assert written[0]["parts"] == [{"video": 7}, "what happens?"]


async def test_a_command_whose_extra_is_missing_names_it(tmp_path: Path) -> None:
    program = "import sys; sys.modules['deploy.cli.up'] = None\nfrom internvl.cli.main import app\napp(sys.argv[1:])"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, "up"), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"is not installed: pip install" in errors
    assert b"Traceback" not in errors


@pytest.mark.parametrize(
    ("text", "increment"), [(None, None), ("auto", "auto"), ("1", 1.0), ("0.25", 0.25), ("1/4", 0.25), ("1/256", 2**-8)]
)
def test_increments_as_people_write_them(text: str | None, increment: float | str | None) -> None:
    assert parse_increment(text) == increment


@pytest.mark.parametrize("text", ["a quarter", "1/0", "1/", "/4", "1/3", "0.3", "2", "-1", "1/512", "nan"])
def test_what_is_no_increment(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_increment(text)
