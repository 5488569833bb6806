"""`internvl health`: one health check of one service."""

import asyncio
from typing import Annotated

import typer

from internvl.cli.health_check import is_serving
from internvl.cli.options import Tls, TlsCa, TlsCertificate, TlsKey, tls_files
from internvl.cli.output import errors


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
    files = tls_files(tls, tls_ca, tls_certificate, tls_key)
    try:
        serves = asyncio.run(is_serving(address, service, files, server_name=server_name, seconds=seconds))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    errors.print("serving" if serves else "not serving")
    raise typer.Exit(not serves)
