"""Questions about two to four pictures of one thing each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.local.demo_model.drawing.scenes import Scene, Thing
from deploy.local.demo_model.talk import phrases
from deploy.local.demo_model.talk.questions.shapes import contents, noun
from deploy.local.demo_model.talk.turns import (
    NUMBERS,
    ORDINALS,
    Askers,
    Questions,
    Skill,
    Turn,
    article,
    listed,
    verdict,
)  # fmt: skip


@dataclass(frozen=True)
class SeveralQuestions(Questions):
    """Asks about pictures shown together."""

    def about(self, scenes: Sequence[Scene]) -> Turn:
        """Any question about the pictures."""
        things = [scene.things[0] for scene in scenes]
        names = Counter(noun(thing) for thing in things)
        askers: list[Askers] = [
            [
                (3, lambda: self.what_in(scenes)),
                (1, lambda: self._all(scenes)),
                (1.5, lambda: self._how_many(names)),
            ]
        ]
        if 1 in names.values():
            askers.append([(3, lambda: self._which(things, names))])
        if len(things) > 2 and sorted(names.values()) == [1, len(things) - 1]:
            askers.append([(4, lambda: self._odd_one(things, names))])
        if len(things) == 2:
            askers.append(self._same(*things))
        return self.ask([asker for group in askers for asker in group])

    def what_in(self, scenes: Sequence[Scene]) -> Turn:
        index = int(self.rng.integers(len(scenes)))
        answer = f"The {ORDINALS[index]} picture shows {contents(scenes[index])}."
        return self.turn(Skill.COMPARE, phrases.WHAT_IN, answer, nth=ORDINALS[index], n=str(index + 1))

    def _all(self, scenes: Sequence[Scene]) -> Turn:
        facts = [f"the {nth} {contents(scene)}" for nth, scene in zip(ORDINALS, scenes, strict=False)]
        facts[0] = f"The first picture shows {contents(scenes[0])}"
        return self.turn(Skill.COMPARE, phrases.ALL_PICTURES, f"{listed(facts)}.")

    def _how_many(self, names: Counter[str]) -> Turn:
        asked = self.pick(list(names)) if self.chance(0.75) else self.pick(("circle", "square", "star", "cross"))
        count = names[asked]
        shown = f"{NUMBERS[count].capitalize()} picture{'s show' if count != 1 else ' shows'}"
        answer = f"{shown} {article(asked)}."
        return self.turn(Skill.COMPARE, phrases.HOW_MANY_SHOW, answer, a_thing=article(asked))

    def _which(self, things: Sequence[Thing], names: Counter[str]) -> Turn:
        single = [index for index, thing in enumerate(things) if names[noun(thing)] == 1]
        index = single[int(self.rng.integers(len(single)))]
        asked = article(noun(things[index]))
        answer = f"The {ORDINALS[index]} picture shows {asked}."
        return self.turn(Skill.COMPARE, phrases.WHICH_PICTURE, answer, a_thing=asked)

    def _odd_one(self, things: Sequence[Thing], names: Counter[str]) -> Turn:
        index = next(index for index, thing in enumerate(things) if names[noun(thing)] == 1)
        answer = f"The {ORDINALS[index]} picture is different: it shows {article(noun(things[index]))}."
        return self.turn(Skill.COMPARE, phrases.ODD_ONE, answer)

    def _same(self, one: Thing, two: Thing) -> Askers:
        askers: Askers = [
            (1.5, lambda: self._verdict(phrases.SAME_COLOR, one.color, two.color, one.color == two.color))
        ]
        same = one.name == two.name
        if one.is_digit and two.is_digit:
            return [*askers, (3, lambda: self._verdict(phrases.SAME_DIGIT, f"a {one.name}", f"a {two.name}", same))]
        if not one.is_digit and not two.is_digit:
            names = article(one.name), article(two.name)
            return [*askers, (3, lambda: self._verdict(phrases.SAME_SHAPE, *names, same))]
        return askers

    def _verdict(self, wordings: Sequence[str], one: str, two: str, same: bool) -> Turn:
        return self.turn(Skill.COMPARE, wordings, verdict(f"The first shows {one} and the second {two}", same))
