"""The fonts in which words are printed: those that matplotlib ships (DejaVu, STIX, Computer Modern).

Two are held out: the model is tested on them and never sees them in training.
"""

from functools import cache
from pathlib import Path

import matplotlib
from PIL import ImageFont

from deploy.local.demo_model.drawing.digits import Split

TRAINING_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "STIXGeneral",
    "STIXGeneralBol",
    "cmr10",
    "cmb10",
    "cmtt10",
)
HELD_OUT_FONTS = ("DejaVuSerif-Italic", "cmss10")


def font_names(split: Split) -> tuple[str, ...]:
    return TRAINING_FONTS if split is Split.TRAIN else HELD_OUT_FONTS


@cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """The font at `size` pixels."""
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


@cache
def letter_edges(name: str, size: int, text: str) -> tuple[float, ...]:
    """Where each letter of a line begins, and where the last one ends, from the line's left."""
    face = font(name, size)
    return tuple(face.getlength(text[:end]) for end in range(len(text) + 1))
