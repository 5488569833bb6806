"""Which conversations the model is trained on, and how the mixture grows harder: one tile first, then several tiles,
two pictures and clips.

The same seed gives the same examples.
"""

from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from deploy.local.demo_model.conversations import Questions, Turn
from deploy.local.demo_model.digits import Split
from deploy.local.demo_model.examples import IMAGES_FIRST, Example, Picture, UserPart, write
from deploy.local.demo_model.model import SINGLE_TILE, TILE_SIZE, TILING
from deploy.local.demo_model.pictures import draw
from deploy.local.demo_model.scenes import Scene, SceneMaker
from deploy.local.demo_model.warmup import random_scene, token_labels
from llm_service.positions import INCREMENTS
from vision_service.tiles import TilingOptions, cut

Size = tuple[int, int]

LAYOUTS = (IMAGES_FIRST, "{question}\n{parts}", "{parts}{question}")
LAYOUT_SHARES = (0.84, 0.08, 0.08)
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
WIDE = ((2, 1), (1, 2), (2, 1), (1, 2), (3, 1), (1, 3))


@dataclass(frozen=True)
class Mixture:
    """Shares of all conversations; what is left is about one picture."""

    text_only: float = 0.06
    two_pictures: float = 0.0
    clip: float = 0.0
    several_tiles: float = 0.0
    """Share of single pictures that are cut into several tiles."""


EASY = Mixture()
FULL = Mixture(two_pictures=0.14, clip=0.04, several_tiles=0.22)


@dataclass(frozen=True)
class ExampleMaker:
    """Makes examples by lot."""

    tokenizer: PreTrainedTokenizerBase
    split: Split
    rng: np.random.Generator
    increment: int | None = None
    """V2PE ticks of every picture; drawn for each picture where None."""

    @property
    def scenes(self) -> SceneMaker:
        return SceneMaker(self.split, self.rng)

    @property
    def questions(self) -> Questions:
        return Questions(self.rng)

    def example(self, mixture: Mixture) -> Example:
        lot = self.rng.random()
        if lot < mixture.text_only:
            return self.text_only()
        if lot < mixture.text_only + mixture.two_pictures:
            return self.two_pictures()
        if lot < mixture.text_only + mixture.two_pictures + mixture.clip:
            return self.clip()
        return self.one_picture(several_tiles=bool(self.rng.random() < mixture.several_tiles))

    def text_only(self) -> Example:
        ask = self.questions.small_talk if self.rng.random() < 0.75 else self.questions.without_picture
        return write(self.tokenizer, [], tuple(ask() for _ in range(self.rng.integers(1, 4))))

    def one_picture(self, *, several_tiles: bool = False, turns: int | None = None) -> Example:
        scene = random_scene(self.scenes, self._several_tiles_size() if several_tiles else self._single_tile_size())
        count = turns or int(self.rng.choice([1, 2, 3], p=[0.25, 0.35, 0.4]))
        asked = tuple(self._turn(scene, index) for index in range(count))
        layout = str(self.rng.choice(LAYOUTS, p=LAYOUT_SHARES))
        return write(self.tokenizer, [self._picture(scene)], asked, layout=layout)

    def two_pictures(self) -> Example:
        first, second = self._pair()
        turns = tuple(self.questions.about_two(first, second) for _ in range(self.rng.integers(1, 4)))
        parts: list[UserPart] = ["Image-1: ", self._picture(first), "\nImage-2: ", self._picture(second)]
        bare: list[UserPart] = [parts[1], "\n", parts[3]]
        return write(self.tokenizer, parts if self.rng.random() < 0.7 else bare, turns)

    def clip(self) -> Example:
        direction = str(self.rng.choice(list(DIRECTIONS)))
        frames = self._frames(direction, count=int(self.rng.integers(3, 7)))
        increment = self._increment()
        parts: list[UserPart] = []
        for number, frame in enumerate(frames, start=1):
            parts += [f"Frame{number}: ", self._picture(frame, SINGLE_TILE, increment), "\n"]
        turn = self.questions.about_clip(frames[0].things[0], direction)
        return write(self.tokenizer, parts, (turn,), layout="{parts}{question}")

    def _turn(self, scene: Scene, index: int) -> Turn:
        return self.questions.small_talk() if index and self.rng.random() < 0.06 else self.questions.about(scene)

    def _pair(self) -> tuple[Scene, Scene]:
        """Two pictures of one thing each, alike in name or colour more often than by chance."""
        maker, size = self.scenes, (TILE_SIZE, TILE_SIZE)
        digits = self.rng.random(2) < 0.5
        same = self.rng.random() < 0.4
        color = maker.color()
        other = color if self.rng.random() < 0.4 else None
        if digits.all():
            value = int(self.rng.integers(10))
            return maker.digit(size, value=value, color=color), maker.digit(
                size, value=value if same else None, color=other
            )
        shape = maker.shape()
        first = maker.digit(size, color=color) if digits[0] else maker.same(1, size, shape=shape, color=color)
        second = (
            maker.digit(size, color=other)
            if digits[1]
            else maker.same(1, size, shape=shape if same else None, color=other)
        )
        return first, second

    def _frames(self, direction: str, count: int) -> list[Scene]:
        """One thing on its way across the picture."""
        size = (TILE_SIZE, TILE_SIZE)
        scene = self.scenes.digit(size) if self.rng.random() < 0.2 else self.scenes.same(1, size)
        thing = scene.things[0]
        side = min(thing.size, 0.5 * TILE_SIZE)
        room = TILE_SIZE - side
        dx, dy = DIRECTIONS[direction]
        way = float(self.rng.uniform(0.5, 0.95)) * room
        start_x = self.rng.uniform(0, room) if dx == 0 else (room - way) / 2 + (way if dx < 0 else 0)
        start_y = self.rng.uniform(0, room) if dy == 0 else (room - way) / 2 + (way if dy < 0 else 0)
        shrunk = Scene(
            *size,
            scene.paper,
            (type(thing)(**{**vars(thing), "size": side, "x": start_x + side / 2, "y": start_y + side / 2}),),
        )
        return [shrunk.moved(dx * way * step / (count - 1), dy * way * step / (count - 1)) for step in range(count)]

    def _picture(self, scene: Scene, tiling: TilingOptions = TILING, increment: int | None = None) -> Picture:
        return Picture(cut(draw(scene), tiling), increment or self._increment(), token_labels(scene))

    def _increment(self) -> int:
        return self.increment or INCREMENTS[int(self.rng.integers(len(INCREMENTS)))]

    def _single_tile_size(self) -> Size:
        if self.rng.random() < 0.6:
            return TILE_SIZE, TILE_SIZE
        width = int(self.rng.integers(90, 155))
        return width, int(np.clip(round(width * self.rng.uniform(0.75, 1.3)), 90, 155))

    def _several_tiles_size(self) -> Size:
        """A size that is cut into 3 to 5 tiles, thumbnail included."""
        if self.rng.random() < 0.5:
            width = int(self.rng.integers(162, 290))
            return width, int(max(162, round(width * self.rng.uniform(0.75, 1.3))))
        cols, rows = WIDE[int(self.rng.integers(len(WIDE)))]
        side = self.rng.uniform(80, 160)
        return round(cols * side * self.rng.uniform(0.9, 1.1)), round(rows * side)
