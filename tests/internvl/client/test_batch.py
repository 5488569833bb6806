"""Files of questions: every line has its answer, whatever happens to the others or to the run."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from internvl.client import ChatClient
from internvl.client.batch import Batch, Line, Progress
from internvl.errors import ImageUnreadable, Internal, QueueFull
from tests.support.fakes import FakeLlm, FakeVision
from tests.support.waiting import until


def write_questions(path: Path, *lines: object) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def write(path: Path, content: str) -> None:
    path.write_text(content, encoding="latin-1")


def read(path: Path) -> str:
    return path.read_text(encoding="latin-1")


def is_begun(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def question(identifier: str, **fields: object) -> dict[str, object]:
    return {"id": identifier, "prompt": "how many?", **fields}


def answers(path: Path) -> dict[str, Any]:
    """By id; each once."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    by_id = {answer["id"]: answer for answer in found}
    assert len(by_id) == len(found)
    return by_id


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


async def test_every_question_is_answered_with_its_pictures_and_options(
    client: ChatClient, tmp_path: Path, target: Path, vision: FakeVision, llm: FakeLlm
) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    (tmp_path / "b.mp4").write_bytes(b"b")
    options = {"max_tokens": 7, "temperature": 0.5, "seed": 3, "position_increment": 0.25, "system": "be brief"}
    source = write_questions(
        tmp_path / "in.jsonl", question("x", images=["a.png"], videos=["b.mp4"], **options), "", question("y")
    )
    seen: list[Progress] = []
    end = await Batch(client, concurrency=1).run(source, target, on_progress=seen.append)
    assert (end, len(seen)) == (Progress(2, 2, ()), 3)
    assert {key: value["text"] for key, value in answers(target).items()} == {"x": "two circles", "y": "two circles"}
    assert answers(target)["x"]["finish_reason"] == "stop"
    assert [request.data for request in vision.encodes] == [b"a"]
    assert vision.clips[0].data == b"b"
    sampling, visual = llm.requests[0].sampling, llm.requests[0].visual
    assert (sampling.max_tokens, sampling.temperature, sampling.seed) == (7, 0.5, 3)
    assert visual.position_increment == 0.25
    assert len(llm.requests[0].messages) == 2


async def test_a_bad_line_costs_that_line_only(client: ChatClient, tmp_path: Path, target: Path) -> None:
    bad = ("{", "[]", "3", '{"id": "q"}', question("r", temprature=1), question("s", images=["missing.png"]))
    source = write_questions(
        tmp_path / "in.jsonl",
        question("a"),
        *bad,
        question("a"),
        "?",
        question("z"),
    )
    end = await Batch(client).run(source, target)
    found = answers(target)
    assert {key for key, answer in found.items() if "text" in answer} == {"a", "z"}
    assert (end.total, end.answered, end.done) == (10, 2, 10)
    assert set(end.failed) == found.keys() - {"a", "z"}
    assert found["r"]["error"]["message"].startswith("temprature: ")
    assert found["s"]["error"]["reason"] == "FILE_UNREADABLE"
    assert found["line 2"]["error"] == {"reason": "BAD_LINE", "message": "not a JSON object", "may_pass": False}
    assert "was there before" in found["line 8"]["error"]["message"]


async def test_errors_are_answers_and_those_that_may_pass_are_tried_by_the_next_run(
    client: ChatClient, tmp_path: Path, target: Path, vision: FakeVision, llm: FakeLlm
) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    source = write_questions(tmp_path / "in.jsonl", question("picture", images=["a.png"]), question("text"))
    vision.failures = [ImageUnreadable("not a picture we can read")]
    llm.failures = [Internal("a bug")]
    end = await Batch(client, concurrency=1).run(source, target)
    assert end == Progress(2, 0, ("picture", "text"))
    reasons = {key: answer["error"]["reason"] for key, answer in answers(target).items()}
    assert reasons == {"picture": "IMAGE_UNREADABLE", "text": "INTERNAL"}
    assert await Batch(client).run(source, target) == Progress(2, 1, ("picture",))
    assert "error" in answers(target)["picture"], "it would fail again"
    assert answers(target)["text"]["text"] == "two circles"


async def test_a_refusal_for_now_is_waited_out(client: ChatClient, tmp_path: Path, target: Path, llm: FakeLlm) -> None:
    source = write_questions(tmp_path / "in.jsonl", question("a"))
    llm.failures = [QueueFull("full", retry_after_seconds=0.01) for _ in range(3)]
    assert await Batch(client).run(source, target) == Progress(1, 1, ())


@pytest.mark.parametrize("end", ["", '{"id": "b", "te', '{"id": "b", "text": "x"}', "\xe4"])
async def test_a_half_written_line_is_made_again(
    client: ChatClient, tmp_path: Path, target: Path, llm: FakeLlm, end: str
) -> None:
    source = write_questions(tmp_path / "in.jsonl", question("a"), question("b"))
    write(target, '{"id": "a", "text": "kept"}\n' + end)
    assert await Batch(client).run(source, target) == Progress(2, 2, ())
    assert {key: answer["text"] for key, answer in answers(target).items()} == {"a": "kept", "b": "two circles"}
    assert len(llm.requests) == 1


@pytest.mark.parametrize("content", ["precious\n", "[]\n", '{"id": 3, "text": ""}\n', '{"id": "a"}\n'])
async def test_a_file_of_somebody_elses_is_not_touched(
    client: ChatClient, tmp_path: Path, target: Path, content: str
) -> None:
    write(target, content)
    with pytest.raises(ValueError, match="is not an output of this command"):
        await Batch(client).run(write_questions(tmp_path / "in.jsonl", question("a")), target)
    assert read(target) == content


async def test_concurrency_is_bounded(client: ChatClient, tmp_path: Path, target: Path, llm: FakeLlm) -> None:
    source = write_questions(tmp_path / "in.jsonl", *(question(str(index)) for index in range(9)))
    llm.gate = asyncio.Event()
    run = asyncio.create_task(Batch(client, concurrency=3).run(source, target))
    await until(lambda: len(llm.requests) == 3, "three at a time")
    await asyncio.sleep(0.1)
    assert len(llm.requests) == 3
    llm.gate.set()
    assert await run == Progress(9, 9, ())


async def test_a_killed_run_is_taken_up_by_the_same_command(
    gateway: str, tmp_path: Path, target: Path, llm: FakeLlm
) -> None:
    source = write_questions(tmp_path / "in.jsonl", *(question(str(index)) for index in range(40)))
    command = (sys.executable, "-m", "internvl.cli", "batch", str(source), str(target), "--address", gateway)
    run = await asyncio.create_subprocess_exec(*command, "--concurrency", "2")
    await until(lambda: is_begun(target), "a first answer")
    run.send_signal(signal.SIGKILL)
    await run.wait()
    again = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, errors = await again.communicate()
    assert again.returncode == 0
    assert errors == b"40 of 40 answered\n"
    assert {answer["text"] for answer in answers(target).values()} == {"two circles"}
    assert len(answers(target)) == 40


@given(
    st.text(st.characters(exclude_characters="\n"))
    | st.dictionaries(st.text(), st.integers() | st.text()).map(json.dumps)
)
def test_any_line_is_a_question_or_a_complaint(text: str) -> None:
    line = Line.parse(7, text)
    assert line.id
    assert (line.question is None) == bool(line.complaint)
