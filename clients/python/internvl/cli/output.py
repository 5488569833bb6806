"""What `internvl` writes to standard error: bars and reasons. Standard output is for answers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from internvl.errors import BackendUnavailable, InternvlError

errors = Console(stderr=True, highlight=False)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Takes how many are done and how many there are. Nothing is drawn where nobody looks."""
    with Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=errors,
        disable=not errors.is_terminal,
    ) as progress:
        task = progress.add_task(what)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def show_upload(sent_bytes: int, total_bytes: int) -> None:
    """How much of a file has been sent, in place; nothing where nobody looks."""
    if errors.is_terminal:
        left = sent_bytes < total_bytes
        errors.print(f"sending {100 * sent_bytes // total_bytes:3d} %" if left else " " * 13, end="\r", style="dim")


@contextmanager
def reported_errors() -> Iterator[None]:
    """A line on standard error and exit code 1 in place of a traceback."""
    try:
        yield
    except InternvlError as error:
        report(error)
        raise typer.Exit(1) from error
    except OSError as error:
        errors.print(f"[red]{escape(str(error))}[/red]")
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def report(error: InternvlError) -> None:
    """What went wrong, by its reason."""
    place = f" ({error.field})" if error.field else ""
    errors.print(f"[red]{error.reason()}[/red]: {escape(error.message + place)}")
    if isinstance(error, BackendUnavailable):
        errors.print("Is it running? `internvl up` starts everything on this machine.", style="dim")
