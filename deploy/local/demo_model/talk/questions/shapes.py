"""Questions about pictures of shapes or of a handwritten digit.

Things are always listed in the order of `scenes.NAMES`, so that a question has one right answer.
"""

import json
from collections import Counter
from dataclasses import dataclass

from deploy.local.demo_model.drawing import shapes
from deploy.local.demo_model.drawing.scenes import COLORS, DIGITS, NAMES, SHAPES, Scene, Thing
from deploy.local.demo_model.talk import phrases
from deploy.local.demo_model.talk.turns import (
    NUMBERS,
    STEP_END,
    Askers,
    Questions,
    Skill,
    Turn,
    article,
    grounded,
    listed,
    plural,
    there_are,
    verdict,
)  # fmt: skip


def contents(scene: Scene) -> str:
    """The things of a scene: `two red circles and a blue square`, `the digit 7 in green`."""
    groups = Counter((thing.name, thing.color) for thing in scene.things)
    in_order = sorted(groups.items(), key=lambda group: NAMES.index(group[0][0]))
    return listed([_group(name, color, count) for (name, color), count in in_order])


def noun(thing: Thing) -> str:
    return "digit" if thing.is_digit else thing.name


def _group(name: str, color: str, count: int) -> str:
    if name in DIGITS:
        return f"the digit {name} in {color}"
    return article(f"{color} {name}") if count == 1 else f"{NUMBERS[count]} {color} {plural(name)}"


@dataclass(frozen=True)
class ShapeQuestions(Questions):
    """Asks about one scene."""

    def about(self, scene: Scene) -> Turn:
        """Any question about the picture."""
        return self.ask(self._about_digit(scene) if scene.things[0].is_digit else self._about_shapes(scene))

    def describe(self, scene: Scene) -> Turn:
        return self.turn(Skill.DESCRIBE, phrases.DESCRIBE, f"The picture shows {contents(scene)}.")

    def kind_sum(self, scene: Scene) -> Turn:
        """Two kinds counted and added, step by step."""
        names = sorted({thing.name for thing in scene.things}, key=NAMES.index)
        name, other = (names[int(index)] for index in sorted(self.rng.choice(len(names), 2, replace=False)))
        counts = [sum(thing.name == kind for thing in scene.things) for kind in (name, other)]
        steps = [f"{there_are(count, kind)}." for count, kind in zip(counts, (name, other), strict=True)]
        steps.append(f"{counts[0]} + {counts[1]} = {sum(counts)}.")
        words = {"things": plural(name), "others": plural(other)}
        return self.turn(Skill.STEPS, phrases.KIND_SUM, STEP_END.join(steps), **words)

    def _about_digit(self, scene: Scene) -> Askers:
        thing = scene.things[0]
        return [
            (6, lambda: self.turn(Skill.DIGIT, phrases.WHICH_DIGIT, f"This is the digit {thing.name}.")),
            (2, lambda: self.describe(scene)),
            (1.5, lambda: self._color(scene)),
            (2, lambda: self._is_digit(thing)),
            (0.5, lambda: self._is_there(scene)),
            (0.3, lambda: self._count_all(scene)),
            (1, lambda: self._where(scene)),
            (0.8, lambda: self._as_json(scene)),
            (0.3, lambda: self.turn(Skill.SHAPE, phrases.WHICH_SHAPE, "There is no shape in the picture.")),
            (0.2, lambda: self._no_chart()),
        ]

    def _about_shapes(self, scene: Scene) -> Askers:
        names = {thing.name for thing in scene.things}
        alone = len(scene.things) == 1
        shared: Askers = [
            (2, lambda: self.describe(scene)),
            (2.5, lambda: self._is_there(scene)),
            (1 if alone else 3, lambda: self._count(scene)),
            (0.5 if alone else 2, lambda: self._count_all(scene)),
            (0.2, lambda: self.turn(Skill.DIGIT, phrases.WHICH_DIGIT, "There is no digit in the picture.")),
            (2.5, lambda: self._is_color(scene)),
            (1, lambda: self._as_json(scene)),
            (0.2, lambda: self.turn(Skill.READ, phrases.READ, phrases.NO_TEXT)),
            (0.2, lambda: self._no_chart()),
        ]
        if any(count == 1 for count in Counter(thing.name for thing in scene.things).values()):
            shared = [*shared, (2, lambda: self._where(scene))]
        if len(names) == 1:
            return [*shared, (3, lambda: self._color(scene)), (3, lambda: self._shape(scene))]
        return [
            *shared,
            (4, lambda: self._color_of(scene)),
            (2, lambda: self._shape_of(scene)),
            (2, lambda: self.kind_sum(scene)),
        ]

    def _no_chart(self) -> Turn:
        wordings = phrases.HIGHEST if self.chance(0.5) else phrases.BAR_COUNT
        return self.turn(Skill.CHART, wordings, phrases.NO_CHART)

    def _shape(self, scene: Scene) -> Turn:
        name = scene.things[0].name
        answer = f"This is {article(name)}." if len(scene.things) == 1 else f"These are {plural(name)}."
        return self.turn(Skill.SHAPE, phrases.WHICH_SHAPE, answer)

    def _color(self, scene: Scene) -> Turn:
        thing = scene.things[0]
        if len(scene.things) > 1:
            answer = f"They are {thing.color}."
            return self.turn(Skill.COLOR, phrases.WHICH_COLORS, answer, things=plural(thing.name))
        if self.chance(0.4):
            return self.turn(Skill.COLOR, phrases.COLOR_OF, f"The {noun(thing)} is {thing.color}.", thing=noun(thing))
        turn = self.turn(Skill.COLOR, phrases.WHICH_COLOR, f"It is {thing.color}.")
        return self._asked_in_json(turn, {"colour": thing.color})

    def _color_of(self, scene: Scene) -> Turn:
        name, color, count = self._group_of(scene)
        if count == 1:
            turn = self.turn(Skill.COLOR_OF, phrases.COLOR_OF, f"The {name} is {color}.", thing=name)
            return self._asked_in_json(turn, {"colour": color})
        return self.turn(Skill.COLOR_OF, phrases.COLORS_OF, f"The {plural(name)} are {color}.", things=plural(name))

    def _shape_of(self, scene: Scene) -> Turn:
        name, color, count = self._group_of(scene)
        answer = f"The {name} is {color}." if count == 1 else f"The {plural(name)} are {color}."
        return self.turn(Skill.COLOR_OF, phrases.SHAPE_OF_COLOR, answer, color=color)

    def _count(self, scene: Scene) -> Turn:
        names = [thing.name for thing in scene.things]
        name = self.pick(SHAPES) if self.chance(0.2) else self.pick(tuple(dict.fromkeys(names)))
        count = names.count(name)
        turn = self.turn(Skill.COUNT, phrases.HOW_MANY, f"{there_are(count, name)}.", things=plural(name))
        return self._asked_in_json(turn, {"count": count})

    def _count_all(self, scene: Scene) -> Turn:
        names = {thing.name for thing in scene.things}
        kind = noun(scene.things[0]) if len(names) == 1 else "shape"
        return self.turn(Skill.COUNT, phrases.HOW_MANY_THERE, f"{there_are(len(scene.things), kind)}.")

    def _is_there(self, scene: Scene) -> Turn:
        present = [noun(thing) for thing in scene.things]
        absent = [name for name in (*SHAPES, "digit") if name not in present]
        asked = self.pick(present if self.chance(0.5) else absent)
        count = present.count(asked)
        answer = verdict(there_are(count, asked), count > 0)
        return self.turn(Skill.YES_NO, phrases.IS_THERE, answer, a_thing=article(asked))

    def _is_color(self, scene: Scene) -> Turn:
        name, color, count = self._group_of(scene)
        asked = color if self.chance(0.5) else self.pick([other for other in COLORS if other != color])
        if count > 1:
            answer = verdict(f"The {plural(name)} are {color}", asked == color)
            return self.turn(Skill.YES_NO, phrases.ARE_COLOR, answer, things=plural(name), color=asked)
        answer = verdict(f"The {name} is {color}", asked == color)
        return self.turn(Skill.YES_NO, phrases.IS_COLOR, answer, thing=name, color=asked)

    def _is_digit(self, thing: Thing) -> Turn:
        asked = thing.name if self.chance(0.5) else self.pick(DIGITS)
        answer = verdict(f"This is the digit {thing.name}", asked == thing.name)
        return self.turn(Skill.YES_NO, phrases.IS_DIGIT, answer, digit=asked)

    def _where(self, scene: Scene) -> Turn:
        counts = Counter(thing.name for thing in scene.things)
        single = [thing for thing in scene.things if counts[thing.name] == 1]
        thing = single[int(self.rng.integers(len(single)))]
        answer = grounded(noun(thing), shapes.box(thing), (scene.width, scene.height))
        return self.turn(Skill.GROUND, phrases.WHERE, answer, thing=noun(thing))

    def _as_json(self, scene: Scene) -> Turn:
        groups = Counter((thing.name, thing.color) for thing in scene.things)
        in_order = sorted(groups.items(), key=lambda group: NAMES.index(group[0][0]))
        things = [{"name": name, "colour": color, "count": count} for (name, color), count in in_order]
        return self.turn(Skill.JSON, phrases.AS_JSON, json.dumps(things))

    def _asked_in_json(self, turn: Turn, answer: dict[str, str | int]) -> Turn:
        """Now and then the same question with its answer as JSON."""
        if not self.chance(0.12):
            return turn
        hint = phrases.JSON_HINTS[-1] if self.unseen else self.pick(phrases.JSON_HINTS[:-1])
        return Turn(Skill.JSON, turn.question + hint, json.dumps(answer), turn.unseen)

    def _group_of(self, scene: Scene) -> tuple[str, str, int]:
        """One of the kinds of things in the scene: name, colour, how many."""
        groups = Counter((thing.name, thing.color) for thing in scene.things)
        (name, color), count = list(groups.items())[int(self.rng.integers(len(groups)))]
        return name, color, count
