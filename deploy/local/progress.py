"""The start of the stack on a screen: bars in a terminal, a line for each stage anywhere else."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from deploy.local.process import Child

NAMES = ("redis", "vision", "llm", "gateway")


class StartDisplay:
    """Shows each process from its start until it serves."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._bars: dict[str, TaskID] = {}
        self._told: dict[str, str] = {}
        self._progress = Progress(
            TextColumn("  {task.description:<8}"),
            BarColumn(bar_width=32),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        for name in NAMES:
            self._bars[name] = self._progress.add_task(name, total=1.0, start=False, state="waiting")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, child: Child) -> None:
        """Called whenever a process gets further. Without a terminal each stage is a line."""
        bar = self._bars[child.name]
        self._progress.start_task(bar)
        if child.ready_seconds is not None:
            self._progress.update(bar, completed=1.0, state="ready")
            self._console.print(
                f"  {child.name:<8} ready after {child.ready_seconds:5.1f} s   {child.address}".rstrip()
            )
        elif child.loaded_fraction is not None:
            self._progress.update(bar, completed=child.loaded_fraction, state="loading")
            self._tell(child.name, f"loading {25 * int(4 * child.loaded_fraction):3d} %")
        else:
            self._progress.update(bar, state="starting")
            self._tell(child.name, "starting")

    def _tell(self, name: str, stage: str) -> None:
        """A line for each new stage, where no bar shows it."""
        if not self._console.is_terminal and self._told.get(name) != stage:
            self._told[name] = stage
            self._console.print(f"  {name:<8} {stage}")

    def finish(self, line: str) -> None:
        """Takes the bars away and says what can be done now."""
        self._progress.stop()
        self._console.print(line)
        sys.stdout.flush()
