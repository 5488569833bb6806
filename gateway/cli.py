"""The command `internvl`: start everything on this machine, chat, ask once.

Needs the base install; `up` needs the services' extras as well. Answers go to standard output, all else to standard
error.
"""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from gateway.cli_options import (
    Address,
    ApiKey,
    Images,
    Increment,
    MaxTiles,
    MaxTokens,
    Temperature,
    Tls,
    TlsCa,
    TlsCertificate,
    TlsKey,
    connect,
    parse_increment,
    tls_files,
)
from gateway.client import (
    DEFAULT_ADDRESS,
    ChatClient,
    ChatSession,
    Finished,
    Sampling,
    Started,
    TlsFiles,
    Visual,
    follow,
)
from gateway.key_file import check_tenant_name, key_digest, new_key
from shared.errors import BackendUnavailable, InternvlError

app = typer.Typer(
    name="internvl", help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
keys = typer.Typer(no_args_is_help=True, help="API keys of the gateway.")
app.add_typer(keys, name="key")
errors = Console(stderr=True, highlight=False)

CHAT_HELP = "/image PATH adds a picture to the next message, /quit or Ctrl-D leaves, Ctrl-C stops a reply."


def main() -> None:
    """The entry point."""
    app()


@app.command()
def up(
    model: Annotated[
        str | None, typer.Option(help="Folder or hub name of an InternVL3 checkpoint; default: the demo model.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address the gateway listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the gateway; 0 = any.")] = 50050,
    redis_url: Annotated[str | None, typer.Option(help="A running Redis; default: start a private one.")] = None,
    log_folder: Annotated[Path | None, typer.Option(help="Where the services' logs go.")] = None,
) -> None:
    """Start Redis, the vision service, the LLM service and the gateway on this machine."""
    from deploy.local.launcher import StackOptions, serve_until_stopped  # needs the extras

    options = StackOptions(host=host, port=port, redis_url=redis_url, log_folder=log_folder)
    with reported_errors():
        serve_until_stopped(options if model is None else options.with_model(model))


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    image: Images = None,
    address: Address = DEFAULT_ADDRESS,
    increment: Increment = None,
    max_tiles: MaxTiles = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    api_key: ApiKey = None,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
) -> None:
    """Ask one question; only the answer goes to standard output."""
    visual = Visual(max_tiles, parse_increment(increment))
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature)
    files = tls_files(tls, tls_ca, tls_certificate, tls_key)

    async def once() -> None:
        async with connect(address, api_key, files) as client:
            session = ChatSession(client, visual=visual, sampling=sampling)
            await write_reply(session, [*(image or []), question])

    with reported_errors():
        asyncio.run(once())


@app.command()
def chat(
    image: Images = None,
    address: Address = DEFAULT_ADDRESS,
    increment: Increment = None,
    max_tiles: MaxTiles = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    api_key: ApiKey = None,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    system: Annotated[str | None, typer.Option(help="Instructions to the model.")] = None,
) -> None:
    """Chat, with pictures if you like."""
    visual = Visual(max_tiles, parse_increment(increment))
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature)
    files = tls_files(tls, tls_ca, tls_certificate, tls_key)
    with reported_errors(), asyncio.Runner() as runner:
        client = runner.run(_connected(address, api_key, files))
        session = ChatSession(client, system=system, visual=visual, sampling=sampling)
        try:
            _converse(runner, session, list(image or []))
        finally:
            runner.run(client.close())


@app.command()
def health(
    address: Annotated[str, typer.Argument(help="host:port of any of the three services.")],
    service: Annotated[str, typer.Option(help="One of its gRPC services; default: all of them.")] = "",
    server_name: Annotated[str, typer.Option(help="Name its certificate bears; default: the host of ADDRESS.")] = "",
    seconds: Annotated[float, typer.Option(help="How long to wait for the answer.")] = 5.0,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
) -> None:
    """Exit with 0 if it serves, with 1 if not: a probe where TLS is on."""
    from gateway.health_check import is_serving  # needs an extra

    files = tls_files(tls, tls_ca, tls_certificate, tls_key)
    try:
        serves = asyncio.run(is_serving(address, service, files, server_name=server_name, seconds=seconds))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    errors.print("serving" if serves else "not serving")
    raise typer.Exit(not serves)


@keys.command("new")
def new(tenant: Annotated[str, typer.Argument(help="Whose key it is.")]) -> None:
    """Make an API key: it is shown this once, and the second line goes below [keys] in the key file."""
    try:
        check_tenant_name(tenant)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="TENANT") from None
    key = new_key()
    typer.echo(f'{key}\n{key_digest(key)} = "{tenant}"')


@app.command("version")
def show_version() -> None:
    """Print the version."""
    typer.echo(version("internvl-serving"))


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


async def write_reply(session: ChatSession, parts: Sequence[str | Path]) -> tuple[Started, Finished]:
    """Writes the answer to standard output as it comes."""

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    ends = await follow(session.ask(*parts), write)
    sys.stdout.write("\n")
    return ends


async def _connected(address: str, api_key: str | None, tls: TlsFiles | None) -> ChatClient:
    client = connect(address, api_key, tls)
    try:
        info = await client.model_info()
    except InternvlError:
        await client.close()
        raise
    errors.print(f"[bold]{escape(info.model)}[/bold] at {address}. {CHAT_HELP}", style="dim")
    return client


def _converse(runner: asyncio.Runner, session: ChatSession, pictures: list[Path]) -> None:
    while (line := _read_line(pictures)) is not None:
        command, _, argument = line.strip().partition(" ")
        if command == "/quit":
            return
        if command == "/image":
            _add_picture(pictures, argument)
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


if __name__ == "__main__":
    main()
