"""The demo model's sample pictures, and what it is known to answer about them."""

import json
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "deploy" / "local" / "demo_model" / "samples"


@dataclass(frozen=True)
class Sample:
    """A conversation about pictures that the model never saw."""

    pictures: tuple[Path, ...]
    turns: tuple[tuple[str, str], ...]
    """Question and answer."""

    @property
    def first(self) -> tuple[tuple[Path | str, ...], str]:
        """What to ask first, pictures and question, and the answer."""
        question, answer = self.turns[0]
        return (*self.pictures, question), answer


def samples() -> list[Sample]:
    """All that the repository ships."""
    return [
        Sample(
            tuple(FOLDER / name for name in conversation["pictures"]),
            tuple((turn["question"], turn["answer"]) for turn in conversation["turns"]),
        )
        for conversation in json.loads((FOLDER / "answers.json").read_text("utf-8"))
    ]


def digit() -> Sample:
    """A conversation about one picture, a handwritten digit."""
    return next(one for one in samples() if len(one.pictures) == 1)
