"""Questions and answers of all kinds without pixels, for the tokenizer's corpus."""

from collections.abc import Iterator

import numpy as np

from deploy.local.demo_model.drawing.charts import ChartMaker
from deploy.local.demo_model.drawing.digits import Split
from deploy.local.demo_model.drawing.library import random_shapes
from deploy.local.demo_model.drawing.printed.sheets import SheetMaker
from deploy.local.demo_model.drawing.scenes import SceneMaker
from deploy.local.demo_model.drawing.videos import VideoMaker
from deploy.local.demo_model.drawing.windows import WindowMaker
from deploy.local.demo_model.talk.questions.charts import ChartQuestions
from deploy.local.demo_model.talk.questions.several import SeveralQuestions
from deploy.local.demo_model.talk.questions.shapes import ShapeQuestions
from deploy.local.demo_model.talk.questions.sheets import SheetQuestions
from deploy.local.demo_model.talk.questions.small_talk import TalkQuestions
from deploy.local.demo_model.talk.questions.tools import ToolQuestions
from deploy.local.demo_model.talk.questions.videos import VideoQuestions
from deploy.local.demo_model.talk.questions.windows import WindowQuestions
from deploy.local.demo_model.talk.turns import Turn

_SIZE = (112, 112)


def sample_turns(rng: np.random.Generator) -> Iterator[Turn]:
    """Endless turns, each kind about as often as it is asked."""
    scenes, sheets = SceneMaker(Split.TRAIN, rng), SheetMaker(Split.TRAIN, rng)
    about_shapes, talk, tools = ShapeQuestions(rng), TalkQuestions(rng), ToolQuestions(rng)
    while True:
        yield about_shapes.about(scenes.digit(_SIZE))
        for _ in range(3):
            yield about_shapes.about(random_shapes(scenes, _SIZE))
        yield SheetQuestions(rng).about(sheets.sheet(_SIZE))
        yield ChartQuestions(rng).about(ChartMaker(Split.TRAIN, rng).chart(_SIZE))
        yield WindowQuestions(rng).about(WindowMaker(Split.TRAIN, rng).window(_SIZE))
        yield VideoQuestions(rng).about(VideoMaker(Split.TRAIN, rng).video())
        yield SeveralQuestions(rng).about([scenes.same(1, _SIZE) for _ in range(int(rng.integers(2, 5)))])
        yield talk.small_talk()
        yield talk.without_picture()
        yield talk.about_unknown()
        yield from tools.offer(talk.small_talk)[1]
