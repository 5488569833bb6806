"""`internvl up`: everything on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.local.launcher import PROGRAMS, StackOptions, programs_with_vllm, serve_until_stopped
from internvl.cli.output import reported_errors


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
    options = StackOptions(host=host, port=port, http_port=http_port, redis_url=redis_url, log_folder=log_folder)
    programs = PROGRAMS if vllm is None else programs_with_vllm(str(vllm))
    with reported_errors():
        serve_until_stopped(options if model is None else options.with_model(model), programs=programs)
