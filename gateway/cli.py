"""The command `internvl`: start everything on this machine, chat, ask once, answer a file of questions.

Needs the base install; `up` needs the services' extras as well. Answers go to standard output, all else to standard
error.
"""

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from deploy.sizing.command import plan_command
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
from gateway.cli_output import errors, progress_bar, reported_errors, show_upload
from gateway.client import (
    DEFAULT_ADDRESS,
    ChatSession,
    Sampling,
    Visual,
)
from gateway.interactive import connected, converse, write_reply
from gateway.key_file import check_tenant_name, key_digest, new_key

app = typer.Typer(
    name="internvl", help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
keys = typer.Typer(no_args_is_help=True, help="API keys of the gateway.")
app.add_typer(keys, name="key")


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
    http_port: Annotated[int, typer.Option(help="Port for clients of OpenAI's API; 0 = any.")] = 50080,
    redis_url: Annotated[str | None, typer.Option(help="A running Redis; default: start a private one.")] = None,
    log_folder: Annotated[Path | None, typer.Option(help="Where the services' logs go.")] = None,
    vllm: Annotated[Path | None, typer.Option(help="Python with vLLM, which then is the LLM's engine.")] = None,
) -> None:
    """Start Redis, the vision service, the LLM service and the gateway on this machine."""
    from deploy.local.launcher import PROGRAMS, StackOptions, programs_with_vllm, serve_until_stopped  # need extras

    options = StackOptions(host=host, port=port, http_port=http_port, redis_url=redis_url, log_folder=log_folder)
    programs = PROGRAMS if vllm is None else programs_with_vllm(str(vllm))
    with reported_errors():
        serve_until_stopped(options if model is None else options.with_model(model), programs=programs)


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
            session = ChatSession(client, visual=visual, sampling=sampling, on_upload=show_upload)
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
        client = runner.run(connected(address, api_key, files))
        session = ChatSession(client, system=system, visual=visual, sampling=sampling, on_upload=show_upload)
        try:
            converse(runner, session, list(image or []))
        finally:
            runner.run(client.close())


@app.command()
def batch(
    source: Annotated[
        Path, typer.Argument(help="One JSON object a line: id, prompt, images ...", exists=True, dir_okay=False)
    ],
    target: Annotated[Path, typer.Argument(help="Where the answers go, one JSON object a line.", dir_okay=False)],
    concurrency: Annotated[int, typer.Option(help="Questions at a time.", min=1, max=1024)] = 8,
    seconds: Annotated[float, typer.Option(help="How long one question may take.")] = 600.0,
    address: Address = DEFAULT_ADDRESS,
    increment: Increment = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    api_key: ApiKey = None,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
) -> None:
    """Answer a file of questions; run it again to go on where it was ended. Exits with 1 if a question failed."""
    from gateway.batch import Batch, Progress

    sampling = Sampling(max_tokens=max_tokens, temperature=temperature)
    wanted = parse_increment(increment)
    files = tls_files(tls, tls_ca, tls_certificate, tls_key)

    async def all_of_them(show: Callable[[Progress], None]) -> Progress:
        async with connect(address, api_key, files) as client:
            run = Batch(client, concurrency=concurrency, sampling=sampling, increment=wanted, timeout=seconds)
            return await run.run(source, target, on_progress=show)

    with reported_errors(), progress_bar("questions") as bar:
        try:
            end = asyncio.run(all_of_them(lambda now: bar(now.done, now.total)))
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="TARGET") from None
    errors.print(f"{end.done} of {end.total} answered, {end.failed} failed in this run")
    raise typer.Exit(bool(end.failed))


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


app.command("plan")(plan_command)


@app.command("version")
def show_version() -> None:
    """Print the version."""
    typer.echo(version("internvl-serving"))


if __name__ == "__main__":
    main()
