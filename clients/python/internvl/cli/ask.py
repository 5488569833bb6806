"""`internvl ask`: one question, one answer."""

import asyncio
import json
import sys
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from internvl.cli.boxes import check_pillow, draw_boxes
from internvl.cli.interactive import write_reply
from internvl.cli.option_groups import Connection, Generation, with_groups
from internvl.cli.output import reported_errors, show_upload
from internvl.client.events import Delta, Region
from internvl.client.messages import Image, Piece, Video
from internvl.client.session import ChatSession, follow

Images = Annotated[
    list[Path] | None,
    typer.Option("--image", "-i", help="An image file; may be given again.", exists=True, dir_okay=False),
]
Videos = Annotated[
    list[Path] | None,
    typer.Option("--video", "-v", help="A video file; may be given again.", exists=True, dir_okay=False),
]
System = Annotated[str | None, typer.Option(help="Instructions to the model.")]
Boxes = Annotated[
    Path | None,
    typer.Option("--boxes", help="Draw the regions that the answer names on the one image, into this file."),
]
Timeout = Annotated[float, typer.Option(help="Seconds that a reply may take.", min=0.001)]


@with_groups
def ask(
    question: Annotated[str, typer.Argument(help="The question; - reads it from standard input.")],
    *,
    image: Images = None,
    video: Videos = None,
    system: System = None,
    timeout: Timeout = 300.0,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object: text, usage, timing.")] = False,
    boxes: Boxes = None,
    generation: Generation,
    connection: Connection,
) -> None:
    """Ask one question; only the answer goes to standard output."""
    if boxes is not None:
        if len(image or ()) != 1 or as_json:
            raise typer.BadParameter("takes one image, and no --json", param_hint="--boxes")
        check_pillow()
    visual, sampling = generation.visual, generation.sampling

    async def once(parts: list[Piece]) -> None:
        async with connection.open() as client:
            session = ChatSession(client, system=system, visual=visual, sampling=sampling, on_upload=show_upload)
            if boxes is not None and image:
                draw_boxes(image[0], await _write_and_collect(session, parts, timeout), boxes)
            elif as_json:
                await _write_json(session, parts, timeout)
            else:
                await write_reply(session, parts, timeout=timeout)

    with reported_errors():
        text = sys.stdin.read().strip() if question == "-" else question
        if not text:
            raise typer.BadParameter("the question is empty", param_hint="QUESTION")
        asyncio.run(once([*media_of(image, video), text]))


def media_of(images: list[Path] | None, videos: list[Path] | None) -> list[Image | Video]:
    """Files as parts of a message, images first."""
    return [
        *(Image(path.read_bytes()) for path in images or ()),
        *(Video(path.read_bytes()) for path in videos or ()),
    ]


async def _write_and_collect(session: ChatSession, parts: list[Piece], seconds: float) -> list[Region]:
    """Writes the answer as it comes; the regions it names."""
    regions: list[Region] = []
    async with aclosing(session.ask(*parts, timeout=seconds)) as events:
        async for event in events:
            if isinstance(event, Delta):
                sys.stdout.write(event.text)
                sys.stdout.flush()
                regions += event.regions
    sys.stdout.write("\n")
    return regions


async def _write_json(session: ChatSession, parts: list[Piece], seconds: float) -> None:
    pieces: list[str] = []
    started, finished = await follow(session.ask(*parts, timeout=seconds), pieces.append)
    reply = {
        "model": started.model,
        "text": "".join(pieces),
        "finish_reason": finished.reason,
        "media": [asdict(each) for each in started.media],
        "usage": asdict(finished.usage),
        "timing": asdict(finished.timing),
    }
    sys.stdout.write(json.dumps(reply, ensure_ascii=False) + "\n")
