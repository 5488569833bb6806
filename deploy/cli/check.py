"""`internvl check`: whether a checkpoint can be served, and what it needs, in seconds."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def check(
    model: Annotated[str, typer.Argument(help="Folder of a checkpoint, or its name on the model hub.")],
    revision: Annotated[str, typer.Option(help="Revision of a name on the hub.")] = "",
    measure: Annotated[bool, typer.Option(help="Also measure what the LLM service computes with here.")] = False,
) -> None:
    """Say what a checkpoint is, what it takes, and why it cannot be served if so: then the exit status is 1.

    Weights are not loaded; of a name on the hub they are not even downloaded.
    """
    from deploy.sizing.report import report_of  # imports PyTorch
    from shared.checkpoint.weights import resolve_folder

    try:
        folder = resolve_folder(model, revision, with_weights=False)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    is_local = Path(model).expanduser().is_dir()
    has_weights = is_local or any(folder.glob("*.safetensors"))
    report = report_of(folder, has_weights=has_weights)
    if not has_weights:
        report.facts["weights"] = "not downloaded, so not looked at"
    if measure:
        report.facts["computing in"] = _hardware()
    table = Table(show_header=False, box=None)
    for name, value in report.facts.items():
        table.add_row(name, value)
    Console(highlight=False).print(table)
    for refusal in report.refusals:
        sys.stderr.write(f"cannot serve: {refusal}\n")
    raise typer.Exit(1 if report.refusals else 0)


def _hardware() -> str:
    """The line that the LLM service logs."""
    import torch

    from llm_service.model.hardware import Hardware

    return str(Hardware.choose(torch.device("cuda" if torch.cuda.is_available() else "cpu")))
