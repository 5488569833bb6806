"""Windows of a program: a title bar with a button that closes it, and buttons with a word on each."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from deploy.local.demo_model.drawing.digits import Split
from deploy.local.demo_model.drawing.marks import Box, Drawing, Mark
from deploy.local.demo_model.drawing.printed.fonts import font_names, letter_edges
from deploy.local.demo_model.drawing.printed.sheets import Line, cap_height, print_line
from deploy.local.demo_model.drawing.scenes import Color

CLOSE = "X"
CAPTIONS = ("OK", "NO", "YES", "SAVE", "OPEN", "BACK", "NEXT", "HELP", "QUIT", "EDIT", "COPY", "STOP", "PLAY", "SEND")
"""Words on buttons."""

_SCHEMES: tuple[tuple[Color, Color, Color], ...] = (
    ((240, 240, 240), (40, 90, 180), (215, 215, 215)),
    ((255, 255, 255), (60, 60, 70), (225, 232, 245)),
    ((232, 236, 240), (0, 110, 110), (255, 255, 255)),
    ((250, 245, 235), (130, 60, 40), (235, 220, 195)),
)
"""Body, title bar, button."""


@dataclass(frozen=True)
class Button:
    """A word that can be clicked."""

    caption: str
    box: Box


@dataclass(frozen=True)
class Window:
    """A program's window over the whole picture; the first button closes it."""

    width: int
    height: int
    scheme: int
    font: str
    print_size: int
    buttons: tuple[Button, ...]


def drawing(window: Window) -> Drawing:
    """The picture of a window, and where the letters on its buttons are."""
    body, title, fill = _SCHEMES[window.scheme]
    image = Image.new("RGB", (window.width, window.height), body)
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, window.width, window.buttons[0].box[3] + 1), fill=title)
    marks: list[Mark] = []
    for button in window.buttons:
        closes = button.caption == CLOSE
        pen.rectangle(button.box, fill=(200, 40, 40) if closes else fill, outline=(90, 90, 90))
        ink, color = ((255, 255, 255), "white") if closes else ((15, 15, 15), "black")
        line = _centered(button, color, ink, window)
        marks += [Mark(mark.name, mark.color, mark.box, button.box) for mark in print_line(pen, line)]
    return Drawing(image, tuple(marks))


def _centered(button: Button, color: str, ink: Color, window: Window) -> Line:
    left, top, right, bottom = button.box
    wide = letter_edges(window.font, window.print_size, button.caption)[-1]
    high = cap_height(window.font, window.print_size)
    x, y = (left + right - wide) / 2, (top + bottom - high) / 2
    return Line(button.caption, color, ink, window.font, window.print_size, round(x), round(y))


@dataclass(frozen=True)
class WindowMaker:
    """Draws windows by lot."""

    split: Split
    rng: np.random.Generator

    def window(self, size: tuple[int, int]) -> Window:
        """Two to five buttons in two columns of a grid with three rows."""
        width, height = size
        name = str(self.rng.choice(font_names(self.split)))
        bar = 0.15 * height
        print_size = max(10, int(min(0.115 * height, 0.36 * width / (letter_edges(name, 40, "OPEN")[-1] / 40))))
        count = int(self.rng.integers(2, 6))
        cells = self.rng.choice(6, count, replace=False)
        captions = self.rng.choice(CAPTIONS, count, replace=False)
        buttons = [Button(CLOSE, (width - 0.16 * width, 1, width - 2, bar - 1))]
        for cell, caption in zip(sorted(cells.tolist()), captions, strict=True):
            row, col = divmod(cell, 2)
            wide, high = self.rng.uniform(0.40, 0.46) * width, self.rng.uniform(0.17, 0.22) * height
            left = (0.02 + 0.5 * col) * width + self.rng.uniform(0, 0.48 * width - wide)
            top = bar + (0.03 + 0.28 * row) * height + self.rng.uniform(0, 0.26 * height - high)
            buttons.append(Button(str(caption), (round(left), round(top), round(left + wide), round(top + high))))
        return Window(width, height, int(self.rng.integers(len(_SCHEMES))), name, print_size, tuple(buttons))
