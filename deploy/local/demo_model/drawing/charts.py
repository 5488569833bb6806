"""Bar charts: two to five bars of different colours, each with its value printed above it."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from deploy.local.demo_model.drawing.digits import Split
from deploy.local.demo_model.drawing.marks import BAR, Box, Drawing, Mark
from deploy.local.demo_model.drawing.printed.fonts import font_names, letter_edges
from deploy.local.demo_model.drawing.printed.sheets import Line, cap_height, print_line
from deploy.local.demo_model.drawing.scenes import Color, SceneMaker

HIGHEST = 9


@dataclass(frozen=True)
class Bar:
    """One bar; no two of a chart have a colour or a value in common."""

    color: str
    ink: Color
    value: int
    """1 to HIGHEST."""


@dataclass(frozen=True)
class Chart:
    """Bars from left to right."""

    width: int
    height: int
    bars: tuple[Bar, ...]
    font: str

    @property
    def print_size(self) -> int:
        return max(12, round(0.15 * min(self.width, self.height)))

    def box(self, index: int) -> Box:
        """Where a bar stands."""
        pitch = self.width * 0.92 / len(self.bars)
        left = self.width * 0.04 + pitch * (index + 0.16)
        bottom = self.height * 0.95
        room = self.height * 0.9 - self.print_size
        return left, bottom - room * self.bars[index].value / HIGHEST, left + pitch * 0.68, bottom


def drawing(chart: Chart) -> Drawing:
    """The picture of a chart, and where its bars and their values are."""
    image = Image.new("RGB", (chart.width, chart.height), (255, 255, 255))
    pen = ImageDraw.Draw(image)
    marks: list[Mark] = []
    for index, bar in enumerate(chart.bars):
        left, top, right, _ = box = chart.box(index)
        pen.rectangle(box, fill=bar.ink, outline=(120, 120, 120) if bar.color == "yellow" else None)
        marks.append(Mark(BAR, bar.color, box))
        text = str(bar.value)
        x = (left + right - letter_edges(chart.font, chart.print_size, text)[-1]) / 2
        y = top - cap_height(chart.font, chart.print_size) - 3
        marks += print_line(pen, Line(text, "black", (0, 0, 0), chart.font, chart.print_size, round(x), round(y)))
    pen.line((chart.width * 0.03, chart.box(0)[3], chart.width * 0.97, chart.box(0)[3]), fill=(60, 60, 60))
    return Drawing(image, tuple(marks))


@dataclass(frozen=True)
class ChartMaker:
    """Draws charts by lot."""

    split: Split
    rng: np.random.Generator

    def chart(self, size: tuple[int, int]) -> Chart:
        inker = SceneMaker(self.split, self.rng)
        count = int(self.rng.integers(2, 6))
        colors = [color for color in inker.distinct_colors(count + 1) if color != "white"][:count]
        values = self.rng.choice(np.arange(1, HIGHEST + 1), count, replace=False)
        name = str(self.rng.choice(font_names(self.split)))
        bars = [Bar(color, inker.ink(color), int(value)) for color, value in zip(colors, values, strict=True)]
        return Chart(*size, tuple(bars), name)
