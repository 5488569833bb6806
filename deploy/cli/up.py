"""`internvl up`: everything on this machine."""

from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.cli.stack_file import read_settings, read_stack_file
from deploy.local.options import StackOptions
from deploy.local.process import LaunchError
from internvl.cli.output import note, reported_errors


def up(
    *,
    model: Annotated[
        str | None, typer.Option(help="Folder or hub name of an InternVL3 checkpoint; default: the demo model.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address the gateway listens on.  [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the gateway; 0 = any.  [default: 50050]")] = None,
    http_port: Annotated[
        int | None, typer.Option(help="Port for clients of OpenAI's API; 0 = any.  [default: 50080]")
    ] = None,
    redis_url: Annotated[str | None, typer.Option(help="A running Redis; default: start a private one.")] = None,
    log_folder: Annotated[Path | None, typer.Option(help="Folder for the services' logs.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="API keys of the gateway (docs/security.md).")] = None,
    vllm: Annotated[Path | None, typer.Option(help="Python with vLLM, which then is the LLM's engine.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file: these options, and a table of settings for each service.", exists=True),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SERVICE.NAME=VALUE", help="A setting of a service, such as llm.weights=int8."),
    ] = None,
) -> None:
    """Start Redis, the vision service, the LLM service and the gateway on this machine."""
    given = {
        "model": model, "host": host, "port": port, "http_port": http_port, "redis_url": redis_url,
        "log_folder": log_folder, "key_file": key_file, "vllm": vllm,
    }  # fmt: skip
    try:
        options, python = _options(config, given, settings)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    note(f"starting {options.model_name or options.model} on this machine", style="dim")
    from deploy.local import preflight
    from deploy.local.launcher import PROGRAMS, programs_with_vllm, serve_until_stopped  # takes a while to import

    programs = PROGRAMS if python is None else programs_with_vllm(str(python))
    with reported_errors():
        try:
            preflight.check(options)
        except LaunchError as error:
            note(f"error: {error}", style="red")
            raise typer.Exit(1) from None
        serve_until_stopped(options, programs=programs)


def _options(
    config: Path | None, given: dict[str, Any], settings: list[str] | None
) -> tuple[StackOptions, Path | str | None]:
    """The command line over the file over the defaults, and the Python of vLLM. Raises ValueError."""
    read, tables = ({}, {}) if config is None else read_stack_file(config)
    merged: dict[str, Any] = {"http_port": 50080, **read}
    merged |= {name: value for name, value in given.items() if value is not None}
    for service, own in read_settings(settings or []).items():
        tables[service] = {**tables.get(service, {}), **own}
    python, model = merged.pop("vllm", None), merged.pop("model", None)
    if python is not None and not Path(python).is_file():
        raise ValueError(f"there is no program {python} (--vllm: the Python of an environment with vLLM)")
    options = StackOptions(**merged, settings=tables)
    return (options if model is None else options.with_model(model)), python
