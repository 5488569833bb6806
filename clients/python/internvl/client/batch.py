"""Many questions from a file, many answers into another: the counterpart of the model card's batch_chat.

Each line of the input is a JSON object, each line of the output answers one:

    {"id": "a", "prompt": "How many circles?", "images": ["one.png"]}
    {"id": "a", "text": "Three.", "finish_reason": "stop", "usage": {...}}
    {"id": "b", "error": {"reason": "IMAGE_UNREADABLE", "message": "..."}}

Answers stand in the order they came; the id ties them to their questions. A line that is no question costs that line
only. A run that was ended at any moment, by a kill or a full disk, is taken up by the same command: ids that have an
answer are left out, and errors that may pass are tried again.
"""

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from internvl.client.chat_client import ChatClient
from internvl.client.events import Finished
from internvl.client.messages import Image, PositionIncrement, Sampling, Video, Visual
from internvl.client.session import ChatSession, follow
from internvl.errors import DeadlineExceeded, Internal, InternvlError, ResourceExhausted, Unavailable
from internvl.transport.pauses import pause_seconds
from internvl.transport.tasks import first_failure

ATTEMPTS = 8
"""Calls of one question that is refused for now."""
_PASSING = (Unavailable, ResourceExhausted, DeadlineExceeded, Internal)
"""Errors that the same question need not meet again: reported, and tried again by the next run."""


class Question(BaseModel):
    """One line of the input."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Annotated[str, Field(min_length=1, max_length=256)]
    prompt: Annotated[str, Field(min_length=1)]
    images: tuple[str, ...] = Field(default=(), strict=False)
    """Paths, from the folder of the input file."""
    videos: tuple[str, ...] = Field(default=(), strict=False)
    system: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    position_increment: float | None = None
    max_tile_count: int | None = None


@dataclass(frozen=True)
class Line:
    """A line of the input."""

    id: str
    """Id of the question; `line N` where there is none to be read."""
    question: Question | None
    complaint: str = ""

    @classmethod
    def parse(cls, number: int, text: str) -> Self:
        """Never fails."""
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            return cls(f"line {number}", None, "not a JSON object")
        given = content.get("id") if isinstance(content, dict) else None
        identifier = given if isinstance(given, str) and given else f"line {number}"
        try:
            return cls(identifier, Question.model_validate(content))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            return cls(identifier, None, f"{'.'.join(map(str, first['loc'])) or 'line'}: {first['msg']}")


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    total: int
    answered: int
    """Answered in this run or before."""
    failed: tuple[str, ...]
    """Ids of the questions that failed, in this run or before; `line N` for a line without an id."""

    @property
    def done(self) -> int:
        """Questions that have an answer or an error."""
        return self.answered + len(self.failed)

    def after(self, identifier: str, *, failed: bool) -> "Progress":
        """One question further."""
        if failed:
            return replace(self, failed=(*self.failed, identifier))
        return replace(self, answered=self.answered + 1)


class Batch:
    """One run from a file to a file."""

    def __init__(
        self,
        client: ChatClient,
        *,
        concurrency: int = 8,
        sampling: Sampling | None = None,
        increment: PositionIncrement | None = None,
        max_tile_count: int | None = None,
        timeout: float | None = 600.0,
    ) -> None:
        """`sampling`, `increment` and `max_tile_count` are defaults for lines that set none of them.

        `timeout` is each question's, in seconds.
        """
        self._client = client
        self._concurrency = concurrency
        self._sampling = sampling or Sampling()
        self._increment = increment
        self._max_tile_count = max_tile_count
        self._timeout = timeout

    async def run(
        self, source: Path, target: Path, *, on_progress: Callable[[Progress], None] = lambda _progress: None
    ) -> Progress:
        """Answers all that has no answer yet. Raises OSError, and ValueError when `target` is something else."""
        lines = await asyncio.to_thread(_lines, source)
        answered = await asyncio.to_thread(_repair, target)
        pending = [line for line in lines if line.id not in answered]
        failed = tuple(line.id for line in lines if answered.get(line.id) is False)
        progress = Progress(len(lines), len(lines) - len(pending) - len(failed), failed)
        on_progress(progress)
        waiting = iter(pending)
        with target.open("a", encoding="utf-8") as stream:

            async def work() -> None:
                nonlocal progress
                for line in waiting:  # shared by all workers: each takes the next one
                    answer = await self._answer(line, source.parent)
                    stream.write(json.dumps(answer, ensure_ascii=False) + "\n")
                    stream.flush()
                    progress = progress.after(line.id, failed="error" in answer)
                    on_progress(progress)

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(self._concurrency):
                        group.create_task(work())
            except* OSError as failures:
                raise first_failure(failures) from None
        return progress

    async def _answer(self, line: Line, folder: Path) -> dict[str, object]:
        if line.question is None:
            return _failure(line.id, "BAD_LINE", line.complaint)
        try:
            text, finished = await self._ask(line.question, folder)
        except InternvlError as error:
            return _failure(line.id, error.reason(), error.message, passing=isinstance(error, _PASSING))
        except OSError as error:
            return _failure(line.id, "FILE_UNREADABLE", f"{error.filename}: {error.strerror}")
        usage = finished.usage
        counts = {
            "prompt_tokens": usage.prompt_token_count,
            "visual_tokens": usage.visual_token_count,
            "completion_tokens": usage.completion_token_count,
        }
        return {"id": line.id, "text": text, "finish_reason": finished.reason, "usage": counts}

    async def _ask(self, question: Question, folder: Path) -> tuple[str, Finished]:
        """Waits when it is refused for now, as long as the server says. Raises InternvlError, OSError."""
        images = [Image(await asyncio.to_thread((folder / name).read_bytes)) for name in question.images]
        videos = [Video(await asyncio.to_thread((folder / name).read_bytes)) for name in question.videos]
        for attempt in range(1, ATTEMPTS + 1):
            session = ChatSession(
                self._client,
                system=question.system,
                sampling=self._sampling_of(question),
                visual=self._visual(question),
            )
            pieces: list[str] = []
            try:
                events = session.ask(*images, *videos, question.prompt, timeout=self._timeout)
                _, finished = await follow(events, pieces.append)
            except ResourceExhausted as error:
                if attempt == ATTEMPTS:
                    raise
                await asyncio.sleep((error.retry_after_seconds or 0.0) + pause_seconds(attempt))
            else:
                return "".join(pieces), finished
        raise AssertionError("the last attempt returns or raises")

    def _sampling_of(self, question: Question) -> Sampling:
        own = {name: getattr(question, name) for name in ("max_tokens", "temperature", "seed")}
        return replace(self._sampling, **{name: value for name, value in own.items() if value is not None})

    def _visual(self, question: Question) -> Visual:
        increment = question.position_increment
        tiles = self._max_tile_count if question.max_tile_count is None else question.max_tile_count
        return Visual(tiles, self._increment if increment is None else increment)


def _lines(source: Path) -> list[Line]:
    """All questions; an id that was there before is a bad line under a name of its own."""
    found: dict[str, Line] = {}
    for number, text in enumerate(source.read_text(encoding="utf-8", errors="replace").split("\n"), start=1):
        if not text.strip():
            continue
        line = Line.parse(number, text)
        if line.id in found:
            line = Line(f"line {number}", None, f"the id {line.id[:64]!r} was there before")
        found[line.id] = line
    return list(found.values())


def _repair(target: Path) -> dict[str, bool]:
    """Drops what a killed run left half written, and errors that may pass; id to whether it was answered.

    Raises ValueError when the file is no output of ours: it is not to be written over.
    """
    if not target.exists():
        return {}
    *whole, _unfinished = target.read_bytes().split(b"\n")
    answers = [_parse_answer(line, number, target) for number, line in enumerate(whole, start=1)]
    kept = {
        str(answer["id"]): (line, answer["error"] is None)
        for line, answer in zip(whole, answers, strict=True)
        if not _may_pass(answer["error"])
    }
    new = target.with_name(target.name + ".new")
    with new.open("wb") as stream:
        stream.writelines(line + b"\n" for line, _ in kept.values())
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(target)
    return {identifier: is_answered for identifier, (_, is_answered) in kept.items()}


def _parse_answer(line: bytes, number: int, target: Path) -> dict[str, object]:
    """Its id, and its error or None."""
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    match answer:
        case {"id": str(identifier), "error": dict(error)}:
            return {"id": identifier, "error": error}
        case {"id": str(identifier), "text": str()}:
            return {"id": identifier, "error": None}
    raise ValueError(f"{target} is not an output of this command (line {number}): it is left unchanged")


def _may_pass(error: object) -> bool:
    return isinstance(error, dict) and bool(error.get("may_pass"))


def _failure(identifier: str, reason: str, message: str, *, passing: bool = False) -> dict[str, object]:
    return {"id": identifier, "error": {"reason": reason, "message": message, "may_pass": passing}}
