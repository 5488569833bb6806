"""A conversation at a terminal: lines in, replies out as they come.

Ctrl-C stops the reply and not the program; a turn that fails leaves the conversation as it was.
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import typer
from rich.markup import escape

from internvl.cli.options import connect, parse_increment
from internvl.cli.output import errors, report
from internvl.client.chat_client import ChatClient
from internvl.client.events import Finished, Started
from internvl.client.messages import Visual
from internvl.client.session import ChatSession, follow
from internvl.errors import InternvlError
from internvl.transport.tls import TlsFiles

CHAT_HELP = (
    "/image PATH adds a picture to the next message, /delta 1/4 sets the increment of visual tokens, "
    "/quit or Ctrl-D leaves, Ctrl-C stops a reply."
)


async def write_reply(session: ChatSession, parts: Sequence[str | Path]) -> tuple[Started, Finished]:
    """Writes the answer to standard output as it comes."""

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    ends = await follow(session.ask(*parts), write)
    sys.stdout.write("\n")
    return ends


async def connected(address: str, api_key: str | None, tls: TlsFiles | None) -> ChatClient:
    client = connect(address, api_key, tls)
    try:
        info = await client.model_info()
    except InternvlError:
        await client.close()
        raise
    errors.print(f"[bold]{escape(info.model)}[/bold] at {address}. {CHAT_HELP}", style="dim")
    return client


def converse(runner: asyncio.Runner, session: ChatSession, pictures: list[Path]) -> None:
    while (line := _read_line(pictures)) is not None:
        command, _, argument = line.strip().partition(" ")
        if command == "/quit":
            return
        if command == "/image":
            _add_picture(pictures, argument)
        elif command == "/delta":
            _set_increment(session, argument)
        elif command.startswith("/"):
            errors.print(CHAT_HELP, style="dim")
        elif command and _reply(runner, session, [*pictures, line]):
            pictures.clear()


def _read_line(pictures: Sequence[Path]) -> str | None:
    """A line of the user, or None when there are no more."""
    shown = "".join(f"[{path.name}] " for path in pictures)
    try:
        return input(f"{shown}> " if sys.stdin.isatty() else "")
    except EOFError:
        return None
    except KeyboardInterrupt:
        errors.print(f"\n{CHAT_HELP}", style="dim")
        return ""


def _add_picture(pictures: list[Path], text: str) -> None:
    path = Path(text.strip()).expanduser()
    if path.is_file():
        pictures.append(path)
    else:
        errors.print(f"there is no file {escape(str(path))}", style="red")


def _set_increment(session: ChatSession, text: str) -> None:
    """From the next turn on. Nothing is encoded again for it: embeddings do not depend on the increment."""
    try:
        increment = parse_increment(text.strip() or None)
    except typer.BadParameter as error:
        errors.print(escape(error.message), style="red")
        return
    session.visual = replace(session.visual or Visual(), position_increment=increment)
    errors.print(f"increment: {'the default' if increment is None else increment}", style="dim")


def _reply(runner: asyncio.Runner, session: ChatSession, parts: Sequence[str | Path]) -> bool:
    """Whether the turn became part of the conversation."""
    try:
        runner.run(_turn(session, parts))
    except KeyboardInterrupt:
        errors.print("\n(stopped)", style="dim")
        return False
    except InternvlError as error:
        report(error)
        return False
    return True


async def _turn(session: ChatSession, parts: Sequence[str | Path]) -> None:
    _, finished = await write_reply(session, parts)
    if finished.reason == "length":
        errors.print("(cut at the token limit)", style="dim")
