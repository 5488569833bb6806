"""What is in a picture: things with a name, a colour and a place, on paper. Drawn at random, never overlapping.

Knows nothing of pixels or of questions. Lengths are in pixels of the picture.
"""

from dataclasses import dataclass, replace
from math import hypot

import numpy as np

from deploy.local.demo_model.drawing import digits
from deploy.local.demo_model.drawing.digits import Split

SHAPES = ("circle", "square", "triangle", "star", "cross")
DIGITS = tuple("0123456789")
NAMES = SHAPES + DIGITS

Color = tuple[int, int, int]

INKS: dict[str, tuple[Color, ...]] = {
    "red": ((220, 30, 35), (190, 20, 30), (255, 0, 0)),
    "green": ((30, 150, 50), (0, 128, 0), (60, 190, 80)),
    "blue": ((30, 70, 210), (0, 0, 255), (50, 110, 220)),
    "yellow": ((250, 220, 30), (255, 255, 0), (240, 205, 50)),
    "purple": ((128, 0, 128), (140, 50, 180), (110, 30, 150)),
    "orange": ((250, 130, 20), (255, 165, 0), (235, 110, 20)),
    "black": ((0, 0, 0), (20, 20, 20), (35, 35, 35)),
    "white": ((255, 255, 255), (245, 245, 245), (235, 235, 235)),
}
"""Colour names, each with a few typical values around which inks vary."""

COLORS = tuple(INKS)

LIGHT_PAPERS: tuple[Color, ...] = ((255, 255, 255), (255, 255, 255), (240, 240, 235), (225, 225, 225), (250, 240, 215))
DARK_PAPERS: tuple[Color, ...] = ((0, 0, 0), (15, 15, 20), (45, 45, 50), (20, 30, 60))


@dataclass(frozen=True)
class Thing:
    """A shape or a digit."""

    name: str
    """One of NAMES."""
    color: str
    """One of COLORS."""
    ink: Color
    x: float
    y: float
    size: float
    """Side of the square it fills."""
    angle: float = 0.0
    """Degrees."""
    drawing: int | None = None
    """Index into `digits.drawings()`, for a digit."""

    @property
    def is_digit(self) -> bool:
        return self.name in DIGITS


@dataclass(frozen=True)
class Scene:
    """A picture's content."""

    width: int
    height: int
    paper: Color
    things: tuple[Thing, ...]
    noise: float = 0.0
    """Deviation of the grey-level noise over the picture."""

    def moved(self, dx: float, dy: float) -> "Scene":
        """The same things, shifted."""
        return replace(self, things=tuple(replace(thing, x=thing.x + dx, y=thing.y + dy) for thing in self.things))


@dataclass(frozen=True)
class SceneMaker:
    """Draws scenes by lot. The same generator state gives the same scene."""

    split: Split
    rng: np.random.Generator

    def digit(self, size: tuple[int, int], *, value: int | None = None, color: str | None = None) -> Scene:
        """One handwritten digit."""
        value = int(self.rng.integers(10)) if value is None else value
        return self._scene([(str(value), color or self.color())], size)

    def same(self, count: int, size: tuple[int, int], *, shape: str | None = None, color: str | None = None) -> Scene:
        """`count` things of one shape and colour."""
        return self._scene([(shape or self.shape(), color or self.color())] * count, size)

    def groups(self, size: tuple[int, int]) -> Scene:
        """Two shapes, each one to four times, at most five things; a colour for each shape."""
        first, second = self.rng.choice(SHAPES, 2, replace=False)
        color, other = self.distinct_colors(2)
        count = int(self.rng.integers(1, 5))
        rest = int(self.rng.integers(1, 6 - count))
        return self._scene([(str(first), color)] * count + [(str(second), other)] * rest, size)

    def different(self, count: int, size: tuple[int, int]) -> Scene:
        """`count` things, no shape and no colour twice."""
        shapes = self.rng.choice(SHAPES, count, replace=False)
        return self._scene(
            [(str(shape), color) for shape, color in zip(shapes, self.distinct_colors(count), strict=True)], size
        )

    def shape(self) -> str:
        return str(self.rng.choice(SHAPES))

    def color(self) -> str:
        return str(self.rng.choice(COLORS))

    def distinct_colors(self, count: int) -> list[str]:
        """Colours that can lie on one paper: black and white never meet."""
        without = self.rng.choice(["black", "white"])
        return [
            str(color)
            for color in self.rng.choice([color for color in COLORS if color != without], count, replace=False)
        ]

    def _scene(self, wanted: list[tuple[str, str]], size: tuple[int, int]) -> Scene:
        inks = {color: self.ink(color) for _, color in wanted}
        paper = self.paper(set(inks))
        places = self._places(len(wanted), size, at_least=0.5 if wanted[0][0] in DIGITS else 0.0)
        things = [
            Thing(
                name,
                color,
                inks[color],
                x,
                y,
                side,
                angle=float(self.rng.uniform(-14, 14)),
                drawing=self._drawing(name),
            )
            for (name, color), (x, y, side) in zip(wanted, places, strict=True)
        ]
        noise = float(self.rng.uniform(0, 8)) if self.rng.random() < 0.3 else 0.0
        return Scene(*size, paper, tuple(things), noise)

    def ink(self, color: str) -> Color:
        base = INKS[color][int(self.rng.integers(len(INKS[color])))]
        red, green, blue = np.clip(np.asarray(base) + self.rng.integers(-12, 13, 3), 0, 255)
        return int(red), int(green), int(blue)

    def paper(self, colors: set[str]) -> Color:
        """Paper on which all of `colors` are seen: dark for white, and sometimes where no dark ink is used."""
        dark = "white" in colors or (not colors & {"black", "purple", "blue"} and self.rng.random() < 0.35)
        papers = DARK_PAPERS if dark else LIGHT_PAPERS
        if "yellow" in colors and not dark:
            papers = LIGHT_PAPERS[:4]
        return papers[int(self.rng.integers(len(papers)))]

    def _drawing(self, name: str) -> int | None:
        return int(self.rng.choice(digits.indices_of(self.split, int(name)))) if name in DIGITS else None

    def _places(self, count: int, size: tuple[int, int], *, at_least: float) -> list[tuple[float, float, float]]:
        """(x, y, side) of each thing, inside the picture and apart; `at_least` is a share of the shorter side."""
        width, height = size
        low, high = {1: (0.35, 0.92), 2: (0.28, 0.5), 3: (0.25, 0.4)}.get(count, (0.23, 0.33))
        low = max(low, at_least)
        places: list[tuple[float, float, float]] = []
        for attempt, (for_side, for_x, for_y) in enumerate(self.rng.random((400, 3)).tolist()):
            side = (low + for_side * (high - low)) * min(size) * max(0.6, 1 - attempt / 100)
            x, y = side / 2 + for_x * (width - side), side / 2 + for_y * (height - side)
            if all(hypot(x - u, y - v) > 0.62 * (side + other) for u, v, other in places):
                places.append((x, y, side))
            if len(places) == count:
                return places
        return self._places(count, size, at_least=at_least)
