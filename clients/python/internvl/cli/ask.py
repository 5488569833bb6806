"""`internvl ask`: one question, one answer."""

import asyncio
from typing import Annotated

import typer

from internvl.cli.interactive import write_reply
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
    connect,
    parse_increment,
    tls_files,
)
from internvl.cli.output import reported_errors, show_upload
from internvl.client.chat_client import DEFAULT_ADDRESS
from internvl.client.messages import Sampling, Visual
from internvl.client.session import ChatSession


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
