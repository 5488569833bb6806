"""Questions about scenes, in many wordings, and their true answers.

Knows nothing of pixels or tokens. Things are always listed in the order of `scenes.NAMES`, so that a question has
one right answer and being right can be measured by comparing text.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from deploy.local.demo_model import phrases
from deploy.local.demo_model.scenes import COLORS, DIGITS, NAMES, SHAPES, Scene, Thing

NUMBERS = ("no", "one", "two", "three", "four", "five")
ORDINALS = ("first", "second")


class Skill(Enum):
    """What a question asks for."""

    DIGIT = "digit"
    SHAPE = "shape"
    COLOR = "colour"
    COLOR_OF = "colour of one of several"
    COUNT = "count"
    YES_NO = "yes or no"
    DESCRIBE = "describe"
    TWO_PICTURES = "two pictures"
    CLIP = "clip"
    TALK = "small talk"


@dataclass(frozen=True)
class Turn:
    """A question and its answer."""

    skill: Skill
    question: str
    answer: str


Asker = Callable[[], Turn]
"""Asks one kind of question; paired with how often it is asked."""


def article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def plural(shape: str) -> str:
    return "crosses" if shape == "cross" else f"{shape}s"


def listed(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


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
class Questions:
    """Asks by lot. The same generator state gives the same question."""

    rng: np.random.Generator

    def about(self, scene: Scene) -> Turn:
        """A question about one picture."""
        askers = self._about_digit(scene) if scene.things[0].is_digit else self._about_shapes(scene)
        return self._ask(askers)

    def small_talk(self) -> Turn:
        answer = self._pick(tuple(phrases.SMALL_TALK))
        return self._turn(Skill.TALK, phrases.SMALL_TALK[answer], answer)

    def without_picture(self) -> Turn:
        """Something that cannot be answered, since there is no picture."""
        askable = (
            phrases.WHICH_DIGIT,
            phrases.WHICH_SHAPE,
            phrases.WHICH_COLOR,
            phrases.DESCRIBE,
            phrases.HOW_MANY_THERE,
        )
        return self._turn(Skill.TALK, askable[int(self.rng.integers(len(askable)))], phrases.ASK_FOR_PICTURE)

    def about_two(self, first: Scene, second: Scene) -> Turn:
        """A question about two pictures of one thing each."""
        one, two = first.things[0], second.things[0]
        skill = Skill.TWO_PICTURES
        askers: list[tuple[float, Asker]] = [
            (3, lambda: self._what_in(first, second)),
            (1, lambda: self._same_color(one, two)),
            (
                1,
                lambda: self._turn(
                    skill, phrases.BOTH, f"The first picture shows {contents(first)} and the second {contents(second)}."
                ),
            ),
        ]
        if noun(one) != noun(two):
            askers.append((3, lambda: self._which_picture(one, two)))
        if one.is_digit and two.is_digit:
            askers.append(
                (4, lambda: self._same(one.name == two.name, phrases.SAME_DIGIT, one.name, two.name, "the digit "))
            )
        if not one.is_digit and not two.is_digit:
            askers.append(
                (
                    2,
                    lambda: self._same(
                        one.name == two.name, phrases.SAME_SHAPE, article(one.name), article(two.name), ""
                    ),
                )
            )
        return self._ask(askers)

    def about_clip(self, thing: Thing, direction: str) -> Turn:
        where = f"to the {direction}" if direction in ("left", "right") else direction
        name = f"digit {thing.name}" if thing.is_digit else thing.name
        return self._turn(Skill.CLIP, phrases.WHICH_WAY, f"The {thing.color} {name} moves {where}.", thing=noun(thing))

    def _about_digit(self, scene: Scene) -> list[tuple[float, Asker]]:
        thing = scene.things[0]
        return [
            (6, lambda: self._turn(Skill.DIGIT, phrases.WHICH_DIGIT, f"This is the digit {thing.name}.")),
            (2, lambda: self._describe(scene)),
            (1.5, lambda: self._color(scene)),
            (3, lambda: self._is_digit(thing)),
            (0.5, lambda: self._is_there(scene)),
            (0.3, lambda: self._count_all(scene)),
            (0.3, lambda: self._turn(Skill.SHAPE, phrases.WHICH_SHAPE, "There is no shape in the picture.")),
        ]

    def _about_shapes(self, scene: Scene) -> list[tuple[float, Asker]]:
        names = {thing.name for thing in scene.things}
        shared: list[tuple[float, Asker]] = [
            (2, lambda: self._describe(scene)),
            (2.5, lambda: self._is_there(scene)),
            (1 if len(scene.things) == 1 else 3, lambda: self._count(scene)),
            (0.5 if len(scene.things) == 1 else 2, lambda: self._count_all(scene)),
            (0.2, lambda: self._turn(Skill.DIGIT, phrases.WHICH_DIGIT, "There is no digit in the picture.")),
            (2.5, lambda: self._is_color(scene)),
        ]
        if len(names) == 1:
            return [*shared, (3, lambda: self._color(scene)), (3, lambda: self._shape(scene))]
        return [*shared, (4, lambda: self._color_of(scene)), (2, lambda: self._shape_of(scene))]

    def _describe(self, scene: Scene) -> Turn:
        return self._turn(Skill.DESCRIBE, phrases.DESCRIBE, f"The picture shows {contents(scene)}.")

    def _shape(self, scene: Scene) -> Turn:
        name = scene.things[0].name
        answer = f"This is {article(name)}." if len(scene.things) == 1 else f"These are {plural(name)}."
        return self._turn(Skill.SHAPE, phrases.WHICH_SHAPE, answer)

    def _color(self, scene: Scene) -> Turn:
        thing, several = scene.things[0], len(scene.things) > 1
        wordings = phrases.WHICH_COLORS if several else phrases.WHICH_COLOR + phrases.COLOR_OF
        answer = f"They are {thing.color}." if several else f"It is {thing.color}."
        things = plural(thing.name) if several else ""
        turn = self._turn(Skill.COLOR, wordings, answer, things=things, thing=noun(thing))
        if not several and f"the {noun(thing)}" in turn.question:
            return Turn(Skill.COLOR, turn.question, f"The {noun(thing)} is {thing.color}.")
        return turn

    def _color_of(self, scene: Scene) -> Turn:
        name, color, count = self._group_of(scene)
        if count == 1:
            return self._turn(Skill.COLOR_OF, phrases.COLOR_OF, f"The {name} is {color}.", thing=name)
        wording = (
            "What colour are the {things}?",
            "Which colour are the {things}?",
            "Tell me the colour of the {things}.",
        )
        return self._turn(Skill.COLOR_OF, wording, f"The {plural(name)} are {color}.", things=plural(name))

    def _shape_of(self, scene: Scene) -> Turn:
        name, color, count = self._group_of(scene)
        answer = f"The {name} is {color}." if count == 1 else f"The {plural(name)} are {color}."
        return self._turn(Skill.COLOR_OF, phrases.SHAPE_OF_COLOR, answer, color=color)

    def _count(self, scene: Scene) -> Turn:
        names = [thing.name for thing in scene.things]
        name = self._pick(SHAPES) if self.rng.random() < 0.12 else self._pick(tuple(dict.fromkeys(names)))
        return self._turn(Skill.COUNT, phrases.HOW_MANY, _there_are(names.count(name), name), things=plural(name))

    def _count_all(self, scene: Scene) -> Turn:
        names = {thing.name for thing in scene.things}
        kind = noun(scene.things[0]) if len(names) == 1 else "shape"
        return self._turn(Skill.COUNT, phrases.HOW_MANY_THERE, _there_are(len(scene.things), kind))

    def _is_there(self, scene: Scene) -> Turn:
        present = [noun(thing) for thing in scene.things]
        absent = [name for name in (*SHAPES, "digit") if name not in present]
        asked = self._pick(present if self.rng.random() < 0.5 else absent)
        answer = (
            f"Yes, {_there_are(present.count(asked), asked, capital=False)}"
            if asked in present
            else f"No, there is no {asked}."
        )
        return self._turn(Skill.YES_NO, phrases.IS_THERE, answer, a_thing=article(asked))

    def _is_color(self, scene: Scene) -> Turn:
        name, color, count = self._group_of(scene)
        asked = color if self.rng.random() < 0.5 else self._pick([other for other in COLORS if other != color])
        word = "Yes" if asked == color else "No"
        if count > 1:
            return self._turn(
                Skill.YES_NO,
                ("Are the {things} {color}?",),
                f"{word}, the {plural(name)} are {color}.",
                things=plural(name),
                color=asked,
            )
        return self._turn(Skill.YES_NO, phrases.IS_COLOR, f"{word}, the {name} is {color}.", thing=name, color=asked)

    def _is_digit(self, thing: Thing) -> Turn:
        asked = thing.name if self.rng.random() < 0.5 else self._pick(DIGITS)
        word = "Yes" if asked == thing.name else "No"
        return self._turn(Skill.YES_NO, phrases.IS_DIGIT, f"{word}, this is the digit {thing.name}.", digit=asked)

    def _which_picture(self, one: Thing, two: Thing) -> Turn:
        which = int(self.rng.integers(2))
        asked = noun((one, two)[which])
        answer = f"The {ORDINALS[which]} picture shows {article(asked)}."
        return self._turn(Skill.TWO_PICTURES, phrases.WHICH_PICTURE, answer, a_thing=article(asked), thing=asked)

    def _what_in(self, first: Scene, second: Scene) -> Turn:
        which = int(self.rng.integers(2))
        answer = f"The {ORDINALS[which]} picture shows {contents((first, second)[which])}."
        return self._turn(Skill.TWO_PICTURES, phrases.WHAT_IN, answer, nth=ORDINALS[which], n=str(which + 1))

    def _same_color(self, one: Thing, two: Thing) -> Turn:
        return self._same(one.color == two.color, phrases.SAME_COLOR, one.color, two.color, "")

    def _same(self, same: bool, wordings: Sequence[str], one: str, two: str, prefix: str) -> Turn:
        answer = (
            f"Yes, both show {prefix}{one}."
            if same
            else f"No, the first shows {prefix}{one} and the second {prefix}{two}."
        )
        return self._turn(Skill.TWO_PICTURES, wordings, answer)

    def _group_of(self, scene: Scene) -> tuple[str, str, int]:
        """One of the kinds of things in the scene: name, colour, how many."""
        groups = Counter((thing.name, thing.color) for thing in scene.things)
        (name, color), count = list(groups.items())[int(self.rng.integers(len(groups)))]
        return name, color, count

    def _ask(self, askers: Sequence[tuple[float, Asker]]) -> Turn:
        weights = np.array([weight for weight, _ in askers])
        return askers[int(self.rng.choice(len(askers), p=weights / weights.sum()))][1]()

    def _turn(self, skill: Skill, wordings: Sequence[str], answer: str, **words: str) -> Turn:
        return Turn(skill, self._casual(self._pick(wordings).format(**words)), answer)

    def _pick(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def _casual(self, question: str) -> str:
        """Now and then as people type: in lower case, without the last mark, in American spelling."""
        lower, bare, american = self.rng.random(3) < (0.3, 0.3, 0.5)
        question = question.lower() if lower else question
        question = question.rstrip(".?!") if bare else question
        return question.replace("olour", "olor") if american else question


def _there_are(count: int, name: str, *, capital: bool = True) -> str:
    there = "There" if capital else "there"
    if count == 0:
        return f"{there} is no {name}."
    return f"{there} is one {name}." if count == 1 else f"{there} are {NUMBERS[count]} {plural(name)}."
