"""Regions of a reply, drawn on their image. Pillow does it, which comes with the extra `boxes`."""

import importlib
from collections.abc import Sequence
from pathlib import Path

import typer

from internvl.client.events import Region

_COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324")


def check_pillow() -> None:
    """Raises typer.BadParameter where Pillow is missing: before anything is asked."""
    try:
        importlib.import_module("PIL.ImageDraw")
    except ModuleNotFoundError:
        raise typer.BadParameter(
            "drawing needs Pillow: pip install 'internvl-client[boxes]'", param_hint="--boxes"
        ) from None


def draw_boxes(image: Path, regions: Sequence[Region], target: Path) -> None:
    """Writes the image as a person sees it, with a frame and its phrase for each region; a point becomes a dot."""
    from PIL import Image, ImageDraw, ImageOps

    with Image.open(image) as opened:
        drawn = ImageOps.exif_transpose(opened).convert("RGB")
    pen = ImageDraw.Draw(drawn)
    width = max(2, max(drawn.size) // 300)
    for index, region in enumerate(regions):
        colour = _COLOURS[index % len(_COLOURS)]
        x1, y1, x2, y2 = (part * side / 1000 for part, side in zip(region.thousandths, drawn.size * 2, strict=True))
        if (x1, y1) == (x2, y2):
            pen.ellipse((x1 - 2 * width, y1 - 2 * width, x2 + 2 * width, y2 + 2 * width), fill=colour)
        else:
            pen.rectangle((x1, y1, x2, y2), outline=colour, width=width)
        if region.phrase:
            pen.text((x1 + 2 * width, max(y1 - 12, 0)), region.phrase, fill=colour)
    drawn.save(target)
