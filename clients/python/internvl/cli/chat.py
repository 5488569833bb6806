"""`internvl chat`: a conversation at a terminal."""

import asyncio
from typing import Annotated

import typer

from internvl.cli.interactive import connected, converse
from internvl.cli.options import (
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
    parse_increment,
    tls_files,
)
from internvl.cli.output import reported_errors, show_upload
from internvl.client.chat_client import DEFAULT_ADDRESS
from internvl.client.messages import Sampling, Visual
from internvl.client.session import ChatSession


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
