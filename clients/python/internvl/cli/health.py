"""`internvl health`: one health check of one service."""

import asyncio
from typing import Annotated

import typer

from internvl.cli.health_check import is_serving
from internvl.cli.option_groups import Tls, with_groups
from internvl.cli.output import note
from internvl.client.chat_client import DEFAULT_PORT
from internvl.transport.address import with_port


@with_groups
def health(
    address: Annotated[str, typer.Argument(help="host:port of any of the three services; port 50050 by default.")],
    *,
    service: Annotated[str, typer.Option(help="One of its gRPC services; default: all of them.")] = "",
    server_name: Annotated[str, typer.Option(help="Name in its certificate; default: the host of ADDRESS.")] = "",
    seconds: Annotated[float, typer.Option("--timeout", "--seconds", help="How long to wait for the answer.")] = 5.0,
    tls: Tls,
) -> None:
    """Exit with 0 if it serves, with 1 if not: a probe where TLS is on."""
    try:
        target = with_port(address, DEFAULT_PORT)
        serves = asyncio.run(is_serving(target, service, tls.files, server_name=server_name, seconds=seconds))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    note("serving" if serves else "not serving")
    raise typer.Exit(not serves)
