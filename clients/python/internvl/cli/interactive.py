"""A conversation at a terminal: lines in, replies out as they come.

Ctrl-C stops the reply and not the program; a turn that fails leaves the conversation unchanged.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import typer

from internvl.cli.option_groups import Connection, parse_increment
from internvl.cli.output import note, report
from internvl.client.chat_client import ChatClient
from internvl.client.events import Finished, Started
from internvl.client.messages import CombinedImage, Image, Piece, Video, Visual
from internvl.client.session import ChatSession, follow
from internvl.errors import InternvlError

CHAT_HELP = """\
/image PATH    adds an image to the next message
/video PATH    adds a video to the next message
/delta 1/4     sets the increment of visual tokens (1, 1/2, ... 1/256, auto; nothing: the server's default)
/system TEXT   starts over with these instructions to the model
/clear         starts over
/save PATH     writes the conversation as JSON
/quit, Ctrl-D  leaves; Ctrl-C stops a reply"""


async def write_reply(
    session: ChatSession,
    parts: Sequence[Piece],
    *,
    timeout: float,  # noqa: ASYNC109 - the call's deadline
) -> tuple[Started, Finished]:
    """Writes the answer to standard output as it comes."""

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    ends = await follow(session.ask(*parts, timeout=timeout), write)
    sys.stdout.write("\n")
    sys.stdout.flush()
    return ends


async def greet(connection: Connection) -> ChatClient:
    """A client of a gateway that answers, whose model is named on standard error."""
    client = connection.open()
    try:
        info = await client.model_info()
    except InternvlError:
        await client.close()
        raise
    note(f"{info.model} at {connection.address}. /help lists the commands.", style="dim")
    return client


class Conversation:
    """Lines of a user and what they do."""

    def __init__(
        self,
        runner: asyncio.Runner,
        new_session: Callable[[str | None], ChatSession],
        *,
        system: str | None,
        media: Sequence[tuple[str, Image | Video]],
        timeout: float,
    ) -> None:
        """`new_session` starts over with given instructions.

        `media` go with the first message, each with the name to show it by. `timeout` is a reply's, in seconds.
        """
        self._runner = runner
        self._new_session = new_session
        self._system = system
        self._session = new_session(system)
        self._media = list(media)
        self._timeout = timeout
        self._commands: dict[str, Callable[[str], None]] = {
            "/image": lambda text: self._add(text, Image),
            "/video": lambda text: self._add(text, Video),
            "/delta": self._set_increment,
            "/system": self._restart_with,
            "/clear": lambda _: self._restart(),
            "/save": self._save,
            "/help": lambda _: note(CHAT_HELP, style="dim"),
        }

    def run(self) -> None:
        """Returns when the user leaves."""
        while (line := self._read_line()) is not None:
            command, _, argument = line.strip().partition(" ")
            if command == "/quit":
                return
            if command in self._commands:
                self._commands[command](argument.strip())
            elif command.startswith("/"):
                note(f"unknown command {command}\n{CHAT_HELP}", style="red")
            elif command and self._reply(line):
                self._media.clear()

    def _read_line(self) -> str | None:
        """A line of the user, or None when there are no more."""
        shown = "".join(f"[{name}] " for name, _ in self._media)
        try:
            return input(f"{shown}> " if sys.stdin.isatty() else "")
        except EOFError:
            return None
        except KeyboardInterrupt:
            note("\n/quit or Ctrl-D leaves", style="dim")
        except UnicodeDecodeError:
            note("text that is not UTF-8", style="red")
        return ""

    def _add(self, text: str, kind: type[Image | Video]) -> None:
        path = Path(text).expanduser()
        try:
            self._media.append((path.name, kind(path.read_bytes())))
        except OSError as error:
            note(f"cannot read {path}: {error.strerror}" if text else "a path is missing", style="red")

    def _set_increment(self, text: str) -> None:
        """From the next turn on. Nothing is encoded again for it: embeddings do not depend on the increment."""
        try:
            increment = parse_increment(text or None)
        except typer.BadParameter as error:
            note(error.message, style="red")
            return
        self._session.visual = replace(self._session.visual or Visual(), position_increment=increment)
        note(f"increment: {'the default' if increment is None else increment}", style="dim")

    def _restart_with(self, system: str) -> None:
        self._system = system or None
        self._restart()

    def _restart(self) -> None:
        visual = self._session.visual
        self._session = self._new_session(self._system)
        self._session.visual = visual
        self._media.clear()
        note("(a new conversation)", style="dim")

    def _save(self, text: str) -> None:
        """Text as it was, media by kind and size: enough to read, not to replay."""
        messages = [
            {
                "role": message.role,
                "parts": [
                    part if isinstance(part, str) else {type(part).__name__.lower(): _byte_count(part)}
                    for part in message.parts
                ],
            }
            for message in self._session.messages
        ]
        path = Path(text).expanduser()
        try:
            path.write_text(json.dumps(messages, ensure_ascii=False, indent=2) + "\n", "utf-8")
        except OSError as error:
            note(f"cannot write {path}: {error.strerror}" if text else "a path is missing", style="red")
        else:
            note(f"wrote {len(messages)} messages to {path}", style="dim")

    def _reply(self, line: str) -> bool:
        """Whether the turn became part of the conversation."""
        try:
            self._runner.run(self._turn([*(part for _, part in self._media), line]))
        except KeyboardInterrupt:
            note("\n(stopped)", style="dim")
            return False
        except InternvlError as error:
            report(error)
            return False
        return True

    async def _turn(self, parts: Sequence[Piece]) -> None:
        _, finished = await write_reply(self._session, parts, timeout=self._timeout)
        if finished.reason == "length":
            note("(cut at the token limit)", style="dim")


def _byte_count(part: Image | CombinedImage | Video) -> int:
    files = part.images if isinstance(part, CombinedImage) else (part,)
    return sum(len(file.data or b"") for file in files)
