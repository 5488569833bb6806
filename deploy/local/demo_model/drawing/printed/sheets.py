"""Printed words and numbers: up to three lines on plain paper, capitals and digits only."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from deploy.local.demo_model.drawing.digits import Split
from deploy.local.demo_model.drawing.marks import LETTERS, Box, Drawing, Mark, union
from deploy.local.demo_model.drawing.printed.fonts import font, font_names, letter_edges
from deploy.local.demo_model.drawing.printed.words import words
from deploy.local.demo_model.drawing.scenes import Color, SceneMaker


@dataclass(frozen=True)
class Line:
    """One printed line."""

    text: str
    color: str
    ink: Color
    font: str
    size: int
    x: float
    """Left end."""
    y: float
    """Top of the capitals."""

    @property
    def is_number(self) -> bool:
        return self.text.isdigit()

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Box of each letter."""
        edges = letter_edges(self.font, self.size, self.text)
        height = cap_height(self.font, self.size)
        return tuple((self.x + left, self.y, self.x + right, self.y + height) for left, right in pairwise(edges))

    @property
    def box(self) -> Box:
        return union(self.boxes)


@dataclass(frozen=True)
class Sheet:
    """Lines on paper, from top to bottom; no colour twice."""

    width: int
    height: int
    paper: Color
    lines: tuple[Line, ...]


def cap_height(name: str, size: int) -> float:
    """Height of a capital letter."""
    _, top, _, bottom = font(name, size).getbbox("H")
    return float(bottom - top)


def print_line(pen: ImageDraw.ImageDraw, line: Line) -> tuple[Mark, ...]:
    """Print a line; where its letters are."""
    top = font(line.font, line.size).getbbox("H")[1]
    pen.text((line.x, line.y - top), line.text, fill=line.ink, font=font(line.font, line.size))
    return tuple(Mark(letter, line.color, box, line.box) for letter, box in zip(line.text, line.boxes, strict=True))


def drawing(sheet: Sheet) -> Drawing:
    """The picture of a sheet, and where its letters are."""
    image = Image.new("RGB", (sheet.width, sheet.height), sheet.paper)
    pen = ImageDraw.Draw(image)
    return Drawing(image, tuple(mark for line in sheet.lines for mark in print_line(pen, line)))


@dataclass(frozen=True)
class SheetMaker:
    """Draws sheets by lot."""

    split: Split
    rng: np.random.Generator
    word_split: Split = Split.TRAIN

    def sheet(self, size: tuple[int, int], lines: int | None = None) -> Sheet:
        """One to three lines, each as large as fits or somewhat smaller."""
        width, height = size
        count = lines or int(self.rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))
        inker = SceneMaker(self.split, self.rng)
        colors = inker.distinct_colors(count)
        paper = inker.paper(set(colors))
        name = str(self.rng.choice(font_names(self.split)))
        rows = [
            self._line(self.text(), color, inker.ink(color), name, width, height / count, row * height / count)
            for row, color in enumerate(colors)
        ]
        return Sheet(width, height, paper, tuple(rows))

    def text(self) -> str:
        """A word, a number, or letters by lot."""
        lot = self.rng.random()
        if lot < 0.45:
            options = words(self.word_split)
            return options[int(self.rng.integers(len(options)))]
        if lot < 0.75:
            length = int(self.rng.integers(1, 5))
            return str(self.rng.integers(10 ** (length - 1), 10**length))
        return "".join(self.rng.choice(LETTERS, int(self.rng.integers(2, 6))))

    def _line(self, text: str, color: str, ink: Color, name: str, width: int, room: float, top: float) -> Line:
        """A line of at most `room` pixels in height below `top`, inside the paper."""
        unit = letter_edges(name, 40, text)[-1] / 40
        largest = min(0.9 * width / unit, 0.85 * room, 0.55 * width)
        smallest = min(largest, max(13.0, 0.16 * width))
        size = max(9, int(self.rng.uniform(smallest, largest)))
        x = self.rng.uniform(0.03 * width, max(0.04 * width, 0.97 * width - unit * size))
        y = top + self.rng.uniform(0.08, 0.92) * max(0.0, room - cap_height(name, size))
        return Line(text, color, ink, name, size, float(round(x)), float(round(y)))
