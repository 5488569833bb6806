"""What is asked in each row of the table: one question about held-out pictures, a few hundred times."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from deploy.local.demo_model.drawing.digits import Split
from deploy.local.demo_model.drawing.library import several_tiles_size, single_tile_size
from deploy.local.demo_model.model import SYSTEM_MESSAGE
from deploy.local.demo_model.talk.conversations import Talker, Topic
from deploy.local.demo_model.talk.examples import Exchange
from deploy.local.demo_model.talk.turns import Skill, Turn

SEED = 20_260_000
TRIES = 40
"""Questions drawn about one picture until one asks for the row's skill."""


@dataclass(frozen=True)
class Case:
    """A conversation whose last message is the question."""

    exchanges: Sequence[Exchange]
    system: str = SYSTEM_MESSAGE


Maker = Callable[[Talker], Case | None]
"""Draws a case; None where the lot gave another skill."""


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    name: str
    make: Maker

    def cases(self, count: int, increment: int, *, unseen: bool = False) -> list[Case]:
        """`count` cases, the same ones for every increment."""
        rng = np.random.default_rng([SEED, *self.name.encode()])
        talker = Talker(Split.HELD_OUT, rng, increment, jpeg=False, unseen=unseen, word_split=Split.HELD_OUT)
        cases: list[Case] = []
        while len(cases) < count:
            case = self.make(talker)
            if case is not None and (case.exchanges[-1].turn.unseen or not unseen):
                cases.append(case)
        return cases


_KINDS: dict[Skill, tuple[str, ...]] = {
    Skill.DIGIT: ("digit",),
    Skill.SHAPE: ("shapes",),
    Skill.COLOR: ("digit", "shapes"),
    Skill.COLOR_OF: ("shapes",),
    Skill.COUNT: ("shapes",),
    Skill.YES_NO: ("digit", "shapes"),
    Skill.DESCRIBE: ("digit", "shapes"),
    Skill.READ: ("sheet",),
    Skill.CHART: ("chart",),
    Skill.GROUND: ("digit", "shapes", "sheet", "chart"),
    Skill.CLICK: ("window",),
    Skill.JSON: ("digit", "shapes", "sheet", "chart", "window"),
    Skill.STEPS: ("shapes", "chart"),
    Skill.UNKNOWN: ("unknown",),
}
"""Kinds of pictures about which a skill is asked."""


def rows() -> list[Row]:
    """All rows."""
    singles = [
        Row(f"{skill.value}{', several tiles' if several else ''}", _about_one(skill, several))
        for several in (False, True)
        for skill in _KINDS
    ]
    others = [
        Row("compare", lambda talker: _first(talker.several())),
        Row("video", lambda talker: _first(talker.video())),
        Row("added later", lambda talker: Case(talker.added_later())),
        Row("tool call", _tool),
        Row("small talk", lambda talker: _first(talker.text_only())),
    ]
    return [*singles[: len(_KINDS)], *others, *singles[len(_KINDS) :]]


def _about_one(skill: Skill, several: bool) -> Maker:
    def make(talker: Talker) -> Case | None:
        kind = _KINDS[skill][int(talker.rng.integers(len(_KINDS[skill])))]
        size = several_tiles_size(talker.rng) if several else single_tile_size(talker.rng)
        topic: Topic = getattr(talker, kind)(size)
        for _ in range(TRIES):
            turn = topic.ask()
            if turn.skill is skill:
                chosen = Topic(topic.drawing, partial(_same, turn))
                return Case(talker.one_picture(chosen, turns=1))
        return None

    return make


def _same(turn: Turn) -> Turn:
    return turn


def _tool(talker: Talker) -> Case | None:
    exchanges, system = talker.with_tools()
    return Case(exchanges[:1], system) if exchanges[0].turn.skill is Skill.TOOL else None


def _first(exchanges: Sequence[Exchange]) -> Case:
    return Case(exchanges[:1])
