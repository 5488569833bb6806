"""Videos: a few frames in which one thing moves, changes its colour, appears or leaves, or in which nothing happens."""

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from deploy.local.demo_model.drawing.digits import Split
from deploy.local.demo_model.drawing.scenes import Scene, SceneMaker, Thing
from deploy.local.demo_model.model import TILE_SIZE

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
ZONES = (("top left", "top", "top right"), ("left", "middle", "right"), ("bottom left", "bottom", "bottom right"))
"""Ninths of a frame, by row and column."""
_ZONE_CENTERS = (0.07, 0.5, 0.93)
_JITTER = 0.06
_SIZE = (TILE_SIZE, TILE_SIZE)


class Change(Enum):
    """What happens in a video."""

    MOVES = "moves"
    TURNS = "turns into another colour"
    APPEARS = "appears"
    LEAVES = "leaves"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Video:
    """Frames, and what happens to one thing in them."""

    frames: tuple[Scene, ...]
    change: Change
    thing: Thing
    """As it is at first; as it is at the end where it appears."""
    direction: str | None = None
    zones: tuple[str, str] | None = None
    """Where a thing that is alone starts and ends."""
    last_color: str | None = None


@dataclass(frozen=True)
class VideoMaker:
    """Draws videos by lot."""

    split: Split
    rng: np.random.Generator

    @property
    def scenes(self) -> SceneMaker:
        return SceneMaker(self.split, self.rng)

    def video(self) -> Video:
        lot = self.rng.random()
        if lot < 0.55:
            return self._moving()
        if lot < 0.7:
            return self._turning()
        return self._appearing() if lot < 0.9 else self._still()

    def _frame_count(self) -> int:
        return int(self.rng.choice([3, 4, 5, 6, 8], p=[0.3, 0.3, 0.2, 0.12, 0.08]))

    def _moving(self) -> Video:
        """One thing on its way from one side to the other, or staying where it is."""
        scene = self.scenes.digit(_SIZE) if self.rng.random() < 0.2 else self.scenes.same(1, _SIZE)
        side = float(self.rng.uniform(0.3, 0.42)) * TILE_SIZE
        thing = replace(scene.things[0], size=side)
        direction = str(self.rng.choice([*DIRECTIONS, "nowhere"]))
        dx, dy = DIRECTIONS.get(direction, (0, 0))
        across, down = (int(self.rng.integers(3)) for _ in range(2))
        first = (down if dy == 0 else 1 - dy, across if dx == 0 else 1 - dx)
        last = (first[0] + 2 * dy, first[1] + 2 * dx)
        jitter = self.rng.uniform(-_JITTER, _JITTER, 4)
        start = _place(first, side, jitter[:2])
        end = _place(last, side, jitter[:2] if direction == "nowhere" else jitter[2:])
        count = self._frame_count()
        frames = [
            replace(
                scene,
                things=(
                    replace(
                        thing,
                        x=start[0] + (end[0] - start[0]) * step / (count - 1),
                        y=start[1] + (end[1] - start[1]) * step / (count - 1),
                    ),
                ),
            )
            for step in range(count)
        ]
        zones = ZONES[first[0]][first[1]], ZONES[last[0]][last[1]]
        moves = direction != "nowhere"
        change = Change.MOVES if moves else Change.NOTHING
        return Video(tuple(frames), change, thing, direction if moves else None, zones)

    def _turning(self) -> Video:
        """One thing that has another colour from some frame on."""
        maker = self.scenes
        scene = maker.same(1, _SIZE)
        thing = scene.things[0]
        _, other = maker.distinct_colors(2)
        while other == thing.color or {other, thing.color} == {"black", "white"}:
            other = maker.color()
        paper = maker.paper({thing.color, other})
        scene = replace(scene, paper=paper)
        turned = replace(scene, things=(replace(thing, color=other, ink=maker.ink(other)),))
        count = self._frame_count()
        since = int(self.rng.integers(1, count))
        frames = tuple(scene if index < since else turned for index in range(count))
        return Video(frames, Change.TURNS, thing, last_color=other)

    def _appearing(self) -> Video:
        """Some things, and one more from some frame on, or until then."""
        maker = self.scenes
        number = int(self.rng.integers(2, 5))
        scene = maker.same(number, _SIZE) if self.rng.random() < 0.5 else maker.different(number, _SIZE)
        index = int(self.rng.integers(number))
        fewer = replace(scene, things=scene.things[:index] + scene.things[index + 1 :])
        count = self._frame_count()
        since = int(self.rng.integers(1, count))
        appears = bool(self.rng.random() < 0.5)
        before, after = (fewer, scene) if appears else (scene, fewer)
        frames = tuple(before if number < since else after for number in range(count))
        return Video(frames, Change.APPEARS if appears else Change.LEAVES, scene.things[index])

    def _still(self) -> Video:
        scene = self.scenes.different(int(self.rng.integers(1, 4)), _SIZE)
        return Video((scene,) * self._frame_count(), Change.NOTHING, scene.things[0])


def _place(zone: tuple[int, int], side: float, jitter: np.ndarray) -> tuple[float, float]:
    """Centre of a thing in a zone (row, column)."""
    row, col = zone
    room = TILE_SIZE - side
    across = min(1.0, max(0.0, _ZONE_CENTERS[col] + float(jitter[0])))
    down = min(1.0, max(0.0, _ZONE_CENTERS[row] + float(jitter[1])))
    return side / 2 + room * across, side / 2 + room * down
