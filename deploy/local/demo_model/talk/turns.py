"""A question with its answer, asked by lot in one of many wordings; and when a reply to it is right."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ORDINALS = ("first", "second", "third", "fourth")
OVERLAP_NEEDED = 0.5
"""Intersection over union from which a box is right."""
STEP_END = "\n\n"
"""Between the steps of a solution, as VisualPRM splits them."""

_BOX = re.compile(r"\[\[(\d+), (\d+), (\d+), (\d+)\]\]")


class Skill(Enum):
    """What a question asks for."""

    DIGIT = "digit"
    SHAPE = "shape"
    COLOR = "colour"
    COLOR_OF = "colour of one of several"
    COUNT = "count"
    YES_NO = "yes or no"
    DESCRIBE = "describe"
    READ = "read"
    CHART = "chart"
    GROUND = "ground"
    CLICK = "click"
    COMPARE = "compare"
    VIDEO = "video"
    JSON = "JSON"
    TOOL = "tool call"
    STEPS = "step by step"
    UNKNOWN = "cannot tell"
    TALK = "small talk"


@dataclass(frozen=True)
class Turn:
    """A question and its answer."""

    skill: Skill
    question: str
    answer: str
    unseen: bool = False
    """Whether the question is worded as never in training."""

    @property
    def steps(self) -> tuple[str, ...]:
        return tuple(self.answer.split(STEP_END))

    def accepts(self, reply: str) -> bool:
        """Whether a reply is right: the same text; boxes may differ a little; of steps, the last decides."""
        expected = self.answer.split(STEP_END)[-1]
        reply = reply.split(STEP_END)[-1]
        boxes, given = _BOX.findall(expected), _BOX.findall(reply)
        if _BOX.sub("", expected) != _BOX.sub("", reply) or len(boxes) != len(given):
            return False
        return all(
            overlap(_numbers(box), _numbers(other)) >= OVERLAP_NEEDED for box, other in zip(boxes, given, strict=True)
        )


Asker = Callable[[], Turn]
"""Asks one kind of question; paired with how often it is asked."""
Askers = Sequence[tuple[float, Asker]]


@dataclass(frozen=True)
class Questions:
    """Asks by lot. The same generator state gives the same question."""

    rng: np.random.Generator
    unseen: bool = False
    """Whether to ask in held-out wordings, where there are any."""

    def ask(self, askers: Askers) -> Turn:
        """One of the askers, as often as its weight says."""
        weights = np.array([weight for weight, _ in askers])
        return askers[int(self.rng.choice(len(askers), p=weights / weights.sum()))][1]()

    def turn(self, skill: Skill, wordings: Sequence[str], answer: str, **words: str) -> Turn:
        """A question in one of the wordings. The last of four or more wordings is held out."""
        has_unseen = len(wordings) >= 4
        options = (wordings[-1:] if self.unseen else wordings[:-1]) if has_unseen else wordings
        question = self.casual(self.pick(options).format(**words))
        return Turn(skill, question, answer, unseen=self.unseen and has_unseen)

    def pick(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def casual(self, question: str) -> str:
        """Now and then as people type: in lower case, without the last mark, in American spelling.

        Capitals of a word that is asked for stay.
        """
        lower, bare, american = self.rng.random(3) < (0.25, 0.25, 0.5)
        if lower:
            question = " ".join(
                word if word.isupper() and len(word) > 1 else word.lower() for word in question.split(" ")
            )
        question = question.rstrip(".?!") if bare else question
        return question.replace("olour", "olor") if american else question


def article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def plural(noun: str) -> str:
    return "crosses" if noun == "cross" else f"{noun}s"


def listed(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def there_are(count: int, name: str) -> str:
    """`There are two circles`, without the full stop."""
    if count == 0:
        return f"There is no {name}"
    return f"There is one {name}" if count == 1 else f"There are {NUMBERS[count]} {plural(name)}"


def verdict(fact: str, is_so: bool) -> str:
    """A yes or no behind the fact it follows from: what is said first can be read off the picture."""
    return f"{fact}, so {'yes' if is_so else 'no'}."


def grounded(name: str, box: tuple[float, float, float, float], size: tuple[int, int]) -> str:
    """A box in thousandths of the picture, as InternVL writes it."""
    width, height = size
    scaled = (box[0] / width, box[1] / height, box[2] / width, box[3] / height)
    numbers = ", ".join(str(min(1000, max(0, round(1000 * side)))) for side in scaled)
    return f"<ref>{name}</ref><box>[[{numbers}]]</box>"


def overlap(box: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Intersection over union."""
    wide = min(box[2], other[2]) - max(box[0], other[0])
    high = min(box[3], other[3]) - max(box[1], other[1])
    shared = max(0, wide) * max(0, high)
    areas = sum((one[2] - one[0]) * (one[3] - one[1]) for one in (box, other))
    return shared / (areas - shared) if areas > shared else 0.0


def _numbers(texts: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(map(int, texts))
