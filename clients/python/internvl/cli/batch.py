"""`internvl batch`: a file of questions to a file of answers."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from internvl.cli.option_groups import Connection, Generation, with_groups
from internvl.cli.output import note, progress_bar, reported_errors
from internvl.client.batch import Batch, Progress

_SHOWN = 10


@with_groups
def batch(
    source: Annotated[
        Path, typer.Argument(help="One JSON object a line: id, prompt, images ...", exists=True, dir_okay=False)
    ],
    target: Annotated[Path, typer.Argument(help="File for the answers, one JSON object a line.", dir_okay=False)],
    *,
    concurrency: Annotated[int, typer.Option(help="Questions at a time.", min=1, max=1024)] = 8,
    timeout: Annotated[float, typer.Option("--timeout", "--seconds", help="Seconds that a question may take.")] = 600.0,
    generation: Generation,
    connection: Connection,
) -> None:
    """Answer a file of questions; run it again to resume. Exits with 1 if a question failed."""
    visual, sampling = generation.visual, generation.sampling

    async def all_of_them(show: Callable[[Progress], None]) -> Progress:
        async with connection.open() as client:
            run = Batch(
                client,
                concurrency=concurrency,
                sampling=sampling,
                increment=visual.position_increment,
                max_tile_count=visual.max_tile_count,
                timeout=timeout,
            )
            return await run.run(source, target, on_progress=show)

    with reported_errors(), progress_bar("questions") as bar:
        try:
            end = asyncio.run(all_of_them(lambda now: bar(now.done, now.total)))
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="TARGET") from None
    note(_summary(end, target))
    raise typer.Exit(bool(end.failed))


def _summary(end: Progress, target: Path) -> str:
    text = f"{end.answered} of {end.total} answered"
    if not end.failed:
        return text
    shown = ", ".join(end.failed[:_SHOWN]) + (", ..." if len(end.failed) > _SHOWN else "")
    return f"{text}, {len(end.failed)} failed: {shown} (their errors are in {target})"
