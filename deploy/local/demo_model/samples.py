"""Pictures the model never saw, with questions and the answers it gives: for a first try and for end-to-end tests.

    python -m deploy.local.demo_model.samples        # draws samples/*.png, checks every answer, writes answers.json

Refuses to write an answer that the model does not give at both increments that are checked.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from deploy.local.demo_model import checkpoint_files
from deploy.local.demo_model.answering import answers
from deploy.local.demo_model.drawing.digits import Split
from deploy.local.demo_model.drawing.scenes import Scene, SceneMaker, Thing
from deploy.local.demo_model.drawing.shapes import draw
from deploy.local.demo_model.talk import tokenizer as special

FOLDER = Path(__file__).parent / "samples"
CHECKED_INCREMENTS = (256, 64)
"""1 and 1/4, in ticks."""


@dataclass(frozen=True)
class Sample:
    """A conversation about pictures of FOLDER."""

    pictures: tuple[str, ...]
    turns: tuple[tuple[str, str], ...]
    """Question and answer."""


SAMPLES = (
    Sample(("seven.png",), (("What digit is this?", "This is the digit 7."), ("What colour is it?", "It is blue."))),
    Sample(("three.png",), (("What number do you see?", "This is the digit 3."), ("Thank you!", "You are welcome."))),
    Sample(
        ("red_square.png",),
        (
            ("What is in the picture?", "The picture shows a red square."),
            ("What colour is it?", "It is red."),
            ("Is there a circle?", "No, there is no circle."),
        ),
    ),
    Sample(
        ("two_shapes.png",),
        (
            ("What colour is the square?", "The square is green."),
            ("What colour is the circle?", "The circle is orange."),
        ),
    ),
    Sample(
        ("three_circles.png",),
        (("How many circles are there?", "There are three circles."), ("What colour are they?", "They are purple.")),
    ),
    Sample(
        ("wide_star.png",),
        (("What shape is this?", "This is a star."), ("What colour is the star?", "The star is yellow.")),
    ),
    Sample(
        ("red_square.png", "three.png"),
        (("What is in the second picture?", "The second picture shows the digit 3 in black."),),
    ),
    Sample((), (("Who are you?", "I am a small demonstration model."),)),
)


def scenes() -> dict[str, Scene]:
    """The scene of each picture file."""
    white, paper = (255, 255, 255), (240, 240, 235)
    maker = SceneMaker(Split.HELD_OUT, np.random.default_rng(99))
    return {
        "seven.png": maker.digit((160, 160), value=7, color="blue"),
        "three.png": maker.digit((112, 112), value=3, color="black"),
        "red_square.png": Scene(160, 160, white, (Thing("square", "red", (214, 34, 40), 76, 84, 88, 6),)),
        "two_shapes.png": Scene(
            144,
            112,
            paper,
            (
                Thing("square", "green", (34, 145, 55), 40, 62, 44, -8),
                Thing("circle", "orange", (245, 130, 25), 102, 48, 48),
            ),
        ),
        "three_circles.png": Scene(
            120,
            120,
            white,
            tuple(Thing("circle", "purple", (130, 20, 140), x, y, 34) for x, y in ((28, 36), (86, 32), (62, 88))),
        ),
        "wide_star.png": Scene(448, 224, (20, 30, 60), (Thing("star", "yellow", (250, 220, 40), 210, 112, 170, 4),)),
    }


def read(name: str) -> Image.Image:
    return Image.open(FOLDER / name)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, scene in scenes().items():
        draw(scene).save(FOLDER / name, optimize=True)
    model, tokenizer = checkpoint_files.read_model(), special.load(checkpoint_files.FOLDER)
    wrong = []
    for sample in SAMPLES:
        images, questions = [read(name) for name in sample.pictures], [question for question, _ in sample.turns]
        for increment in CHECKED_INCREMENTS:
            given = answers(model, tokenizer, images, questions, increment=increment)
            wrong += [
                (sample.pictures, increment, *pair)
                for pair in zip(sample.turns, given, strict=True)
                if pair[0][1] != pair[1]
            ]
    if wrong:
        raise SystemExit("\n".join(map(str, ["answers differ:", *wrong])))
    facts = [
        {
            "pictures": sample.pictures,
            "turns": [{"question": question, "answer": answer} for question, answer in sample.turns],
        }
        for sample in SAMPLES
    ]
    (FOLDER / "answers.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
