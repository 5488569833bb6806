"""Standard error of `internvl`: bars, notes and reasons. Standard output is for answers."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from internvl.errors import BackendUnavailable, InternvlError

BROKEN_PIPE = 141
"""Exit code of a program whose reader has gone, as shells have it (128 + SIGPIPE)."""


def note(text: str, *, style: str = "") -> None:
    """A line on standard error; coloured on a terminal, never wrapped."""
    colours = {"red": typer.colors.RED, "dim": None, "": None}
    typer.echo(typer.style(text, fg=colours[style], dim=style == "dim" or None), err=True)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Takes how many are done and how many there are. Nothing is drawn unless standard error is a terminal."""
    from rich.console import Console  # takes a while to import
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def show_upload(sent_bytes: int, total_bytes: int) -> None:
    """How much of a file has been sent, in place; nothing unless standard error is a terminal."""
    if sys.stderr.isatty():
        left = sent_bytes < total_bytes
        text = f"sending {100 * sent_bytes // total_bytes:3d} %" if left else " " * 13
        typer.echo(typer.style(f"{text}\r", dim=True), err=True, nl=False)


@contextmanager
def reported_errors() -> Iterator[None]:
    """A line on standard error and exit code 1 in place of a traceback; silence where the reader of the answer left."""
    try:
        yield
        sys.stdout.flush()
    except InternvlError as error:
        report(error)
        raise typer.Exit(1) from error
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at its end
        raise typer.Exit(BROKEN_PIPE) from None
    except UnicodeError:
        note("text that is not UTF-8", style="red")
        raise typer.Exit(1) from None
    except OSError as error:
        note(str(error), style="red")
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def report(error: InternvlError) -> None:
    """The error by its reason, with the field at fault."""
    place = f" ({error.field})" if error.field else ""
    note(f"{error.reason()}: {error.message}{place}", style="red")
    if isinstance(error, BackendUnavailable):
        note("Is it running? `internvl up` starts everything on this machine.", style="dim")
