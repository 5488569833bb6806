"""The command `internvl`: where each of its commands is implemented.

Other distributions add commands by the entry-point group `internvl.commands`. A command's module is imported when the
command is called or listed, so that `internvl --version` costs next to nothing.
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

GROUP = "internvl.commands"
EXTRAS = "pip install 'internvl-serving[vision,llm,gateway,local]'"
DISTRIBUTION = "internvl-client"
HELP = {"help_option_names": ["-h", "--help"]}
COMMANDS = {name: EntryPoint(name, f"internvl.cli.{name}:{name}", GROUP) for name in ("chat", "ask", "batch", "health")}


class Commands(TyperGroup):
    """The client's commands, then those that other installed distributions add."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override] # typer's own subclass
        return [*_found(), *super().list_commands(ctx)]

    def get_command(self, ctx: typer.Context, cmd_name: str) -> TyperCommand | TyperGroup | None:  # type: ignore[override]
        entry = _found().get(cmd_name)
        return _loaded(entry) if entry else super().get_command(ctx, cmd_name)  # type: ignore[return-value]


app = typer.Typer(
    name="internvl",
    cls=Commands,
    help="InternVL3 from the command line. Answers go to standard output, all else to standard error.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help as it is written: rich would eat [brackets], and takes long to import
    context_settings=HELP,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version(DISTRIBUTION))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the command itself."""


@app.command("version")
def show_version() -> None:
    """Print the version."""
    _print_version(True)


def _found() -> dict[str, EntryPoint]:
    return COMMANDS | {entry.name: entry for entry in entry_points(group=GROUP)}


def _loaded(entry: EntryPoint) -> Any:
    """A function becomes a command, a Typer a group of commands."""
    try:
        made: Callable[..., Any] | typer.Typer = entry.load()
    except ModuleNotFoundError as error:
        made = _unavailable(entry.name, error.name or "a module")
    if isinstance(made, typer.Typer):
        app = made
    else:
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        app.command(entry.name, context_settings=HELP)(made)
    command = get_command(app)
    command.name = entry.name
    command.short_help = (command.help or "").partition("\n\n")[0]  # whole: by default a list of commands cuts it
    return command


def _unavailable(name: str, module: str) -> Callable[[], None]:
    """Stands for a command whose distribution is installed without the extras that it needs."""

    def command() -> None:
        typer.echo(f"internvl {name} needs {module}, which is not installed: {EXTRAS}", err=True)
        raise typer.Exit(1)

    command.__doc__ = f"(needs {module}, which is not installed)"
    return command
