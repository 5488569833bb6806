"""Options that several commands of `internvl` have."""

from pathlib import Path
from typing import Annotated

import typer

from internvl.client.chat_client import ChatClient
from internvl.client.messages import PositionIncrement
from internvl.transport.tls import TlsFiles

Address = Annotated[str, typer.Option(help="host:port of the gateway.", envvar="INTERNVL_CLI_ADDRESS")]
ApiKey = Annotated[
    str | None,
    typer.Option(
        help="API key; better given in the environment, where other users do not see it.", envvar="INTERNVL_CLI_API_KEY"
    ),
]
Tls = Annotated[bool, typer.Option("--tls", help="TLS, checked against the system's authorities.")]
TlsCa = Annotated[
    Path | None, typer.Option(help="TLS, checked against the authority in this PEM file.", envvar="INTERNVL_CLI_TLS_CA")
]
TlsCertificate = Annotated[
    Path | None, typer.Option(help="PEM file of your certificate (mTLS).", envvar="INTERNVL_CLI_TLS_CERTIFICATE")
]
TlsKey = Annotated[Path | None, typer.Option(help="PEM file of its key.", envvar="INTERNVL_CLI_TLS_KEY")]
Images = Annotated[
    list[Path] | None, typer.Option("--image", "-i", help="A picture; may be given again.", exists=True, dir_okay=False)
]
Increment = Annotated[
    str | None,
    typer.Option(help="Position increment of visual tokens: 1, 1/2, 0.25 ... 1/256, or auto.", metavar="DELTA"),
]
MaxTiles = Annotated[int | None, typer.Option(help="Most tiles a picture is cut into.")]
MaxTokens = Annotated[int | None, typer.Option(help="Most tokens of a reply.")]
Temperature = Annotated[float | None, typer.Option(help="0 = always the likeliest token.")]


def tls_files(tls: bool, ca: Path | None, certificate: Path | None, key: Path | None) -> TlsFiles | None:
    """What the options say; None: in the clear."""
    if (certificate is None) != (key is None):
        raise typer.BadParameter("--tls-certificate and --tls-key go together")
    if not tls and ca is None and certificate is None:
        return None
    return TlsFiles(certificate, key, ca)


def connect(address: str, api_key: str | None, tls: TlsFiles | None) -> ChatClient:
    """A client. Call it inside the event loop that will use it."""
    try:
        return ChatClient(address, api_key=api_key, tls=tls)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def parse_increment(text: str | None) -> PositionIncrement | None:
    """`1`, `0.25`, `1/4` or `auto`. Whether the server has such an increment, it says itself."""
    if text is None or text == "auto":
        return "auto" if text else None
    numerator, slash, denominator = text.partition("/")
    try:
        return float(numerator) / (float(denominator) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        raise typer.BadParameter(f"{text!r} is none of 1, 0.25, 1/4 and auto", param_hint="--increment") from None
