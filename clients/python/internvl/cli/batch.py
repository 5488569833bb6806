"""`internvl batch`: a file of questions to a file of answers."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from internvl.cli.options import (
    Address,
    ApiKey,
    Increment,
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
from internvl.cli.output import errors, progress_bar, reported_errors
from internvl.client.batch import Batch, Progress
from internvl.client.chat_client import DEFAULT_ADDRESS
from internvl.client.messages import Sampling


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
