"""Talk without a picture, and about pictures that show nothing the model knows."""

from dataclasses import dataclass

from deploy.local.demo_model.talk import phrases
from deploy.local.demo_model.talk.turns import Questions, Skill, Turn

ABOUT_PICTURES = (
    phrases.WHICH_DIGIT,
    phrases.WHICH_SHAPE,
    phrases.WHICH_COLOR,
    phrases.DESCRIBE,
    phrases.HOW_MANY_THERE,
    phrases.READ,
    phrases.HIGHEST,
    phrases.AS_JSON,
)


@dataclass(frozen=True)
class TalkQuestions(Questions):
    """Small talk, and what cannot be answered."""

    def small_talk(self) -> Turn:
        answer = self.pick(tuple(phrases.SMALL_TALK))
        return self.turn(Skill.TALK, phrases.SMALL_TALK[answer], answer)

    def without_picture(self) -> Turn:
        """What cannot be answered, since there is no picture."""
        return self.turn(Skill.TALK, self._wordings(), phrases.ASK_FOR_PICTURE)

    def about_unknown(self) -> Turn:
        """What cannot be answered, since the picture shows nothing the model knows."""
        return self.turn(Skill.UNKNOWN, self._wordings(), phrases.CANNOT_TELL)

    def _wordings(self) -> tuple[str, ...]:
        return ABOUT_PICTURES[int(self.rng.integers(len(ABOUT_PICTURES)))]
