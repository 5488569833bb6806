"""Options that several commands share, said once: a command takes a group as one parameter.

    @with_groups
    def ask(question: str, connection: Connection, generation: Generation) -> None: ...

Typer sees one option for each field of each group.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast, get_type_hints

import typer

from internvl.client.chat_client import DEFAULT_ADDRESS, ChatClient
from internvl.client.messages import PositionIncrement, Sampling, Visual
from internvl.increments import INCREMENTS
from internvl.transport.tls import TlsFiles


class OptionGroup:
    """Base of the groups: frozen dataclasses whose fields are annotated with their options."""


@dataclass(frozen=True)
class Tls(OptionGroup):
    """TLS of a connection."""

    tls: Annotated[
        bool, typer.Option("--tls", help="TLS, checked against the system's authorities.", envvar="INTERNVL_CLI_TLS")
    ] = False
    tls_ca: Annotated[
        Path | None,
        typer.Option(help="TLS, checked against the authority in this PEM file.", envvar="INTERNVL_CLI_TLS_CA"),
    ] = None
    tls_certificate: Annotated[
        Path | None, typer.Option(help="PEM file of your certificate (mTLS).", envvar="INTERNVL_CLI_TLS_CERTIFICATE")
    ] = None
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of its key.", envvar="INTERNVL_CLI_TLS_KEY")] = None

    @property
    def files(self) -> TlsFiles | None:
        """PEM files; None: in the clear."""
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise typer.BadParameter("--tls-certificate and --tls-key go together")
        if not self.tls and self.tls_ca is None and self.tls_certificate is None:
            return None
        return TlsFiles(self.tls_certificate, self.tls_key, self.tls_ca)


@dataclass(frozen=True)
class Connection(Tls):
    """The gateway and the key shown to it."""

    address: Annotated[str, typer.Option(help="host or host:port of the gateway.", envvar="INTERNVL_CLI_ADDRESS")] = (
        DEFAULT_ADDRESS
    )
    api_key: Annotated[
        str | None,
        typer.Option(
            help="API key; better given in the environment, where other users do not see it.",
            envvar="INTERNVL_CLI_API_KEY",
        ),
    ] = None

    def open(self) -> ChatClient:
        """A client. Call it inside the event loop that will use it."""
        try:
            return ChatClient(self.address, api_key=self.api_key, tls=self.files)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None


@dataclass(frozen=True)
class Generation(OptionGroup):
    """How images are shown to the model, and how tokens are chosen."""

    increment: Annotated[
        str | None,
        typer.Option(help="Position increment of visual tokens: 1, 1/2, 0.25 ... 1/256, or auto.", metavar="DELTA"),
    ] = None
    max_tiles: Annotated[int | None, typer.Option(help="Maximum number of tiles of an image.")] = None
    max_tokens: Annotated[int | None, typer.Option(help="Maximum number of tokens of a reply.")] = None
    temperature: Annotated[float | None, typer.Option(help="0 = always the likeliest token.")] = None
    top_p: Annotated[float | None, typer.Option(help="Share of probability to choose from.")] = None
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same reply.")] = None
    stop: Annotated[list[str] | None, typer.Option(help="Text that ends the reply; may be given again.")] = None

    @property
    def visual(self) -> Visual:
        """How images are shown."""
        return Visual(self.max_tiles, parse_increment(self.increment))

    @property
    def sampling(self) -> Sampling:
        """How tokens are chosen."""
        return Sampling(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=tuple(self.stop or ()),
        )


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each field of its groups, in the order of its parameters."""
    groups: dict[str, tuple[type[OptionGroup], list[str]]] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        group = parameter.annotation
        if not (isinstance(group, type) and issubclass(group, OptionGroup)):
            parameters.append(parameter)
            continue
        hints = get_type_hints(group, include_extras=True)
        fields = dataclasses.fields(cast(Any, group))
        groups[name] = group, [field.name for field in fields]
        parameters += [
            inspect.Parameter(field.name, parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
            for field in fields
        ]
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, (group, fields) in groups.items():
            given[name] = group(**{field: given.pop(field) for field in fields})
        command(**given)

    del run.__wrapped__  # typer would look through it to the groups
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def parse_increment(text: str | None) -> PositionIncrement | None:
    """`1`, `0.25`, `1/4` or `auto`. Raises typer.BadParameter for any that V2PE does not have."""
    if text is None or text == "auto":
        return "auto" if text else None
    numerator, slash, denominator = text.partition("/")
    try:
        value = float(numerator) / (float(denominator) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        value = 0.0
    if value not in INCREMENTS:
        raise typer.BadParameter(f"{text!r} is none of 1, 1/2, 1/4, ... 1/256 and auto", param_hint="--increment")
    return value
