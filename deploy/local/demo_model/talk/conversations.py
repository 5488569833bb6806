"""Whole conversations and documents by lot: which pictures, in which order, and what is asked about them.

The same seed gives the same examples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from transformers import PreTrainedTokenizerBase

from deploy.local.demo_model.drawing import charts, shapes, windows
from deploy.local.demo_model.drawing.charts import ChartMaker
from deploy.local.demo_model.drawing.digits import Split
from deploy.local.demo_model.drawing.library import Size, random_shapes, several_tiles_size, single_tile_size
from deploy.local.demo_model.drawing.marks import Drawing
from deploy.local.demo_model.drawing.photographs import PhotographMaker
from deploy.local.demo_model.drawing.printed import sheets
from deploy.local.demo_model.drawing.printed.sheets import SheetMaker
from deploy.local.demo_model.drawing.scenes import Scene, SceneMaker
from deploy.local.demo_model.drawing.tiles import compressed, tiled
from deploy.local.demo_model.drawing.videos import VideoMaker
from deploy.local.demo_model.drawing.windows import WindowMaker
from deploy.local.demo_model.model import SINGLE_TILE, SYSTEM_MESSAGE, TILE_SIZE, TILING
from deploy.local.demo_model.talk.examples import Example, Exchange, Picture, UserPart, conversation
from deploy.local.demo_model.talk.questions.charts import ChartQuestions
from deploy.local.demo_model.talk.questions.several import SeveralQuestions
from deploy.local.demo_model.talk.questions.shapes import ShapeQuestions
from deploy.local.demo_model.talk.questions.sheets import SheetQuestions
from deploy.local.demo_model.talk.questions.small_talk import TalkQuestions
from deploy.local.demo_model.talk.questions.tools import ToolQuestions
from deploy.local.demo_model.talk.questions.videos import VideoQuestions
from deploy.local.demo_model.talk.questions.windows import WindowQuestions
from deploy.local.demo_model.talk.turns import Turn
from llm_service.positions import INCREMENTS
from vision_service.tiles import TilingOptions

SYSTEM_MESSAGES = (SYSTEM_MESSAGE, "You are a helpful assistant.", "")
SYSTEM_SHARES = (0.9, 0.06, 0.04)
SEVERAL_TILES_SHARE = 0.25
TURNS = (1, 2, 3, 4, 5, 6)
TURN_SHARES = (0.1, 0.15, 0.2, 0.25, 0.2, 0.1)


@dataclass(frozen=True)
class Topic:
    """Something to talk about: a drawing and who asks about it."""

    drawing: Drawing
    ask: Callable[[], Turn]
    scene: Scene | None = None
    """Where it is one thing that can be compared with others."""


@dataclass(frozen=True)
class Talker:
    """Holds conversations by lot."""

    split: Split
    rng: np.random.Generator
    increment: int | None = None
    """V2PE ticks of every picture; drawn for each picture where None, as V2PE is trained."""
    jpeg: bool = True
    """Whether pictures are sometimes compressed as JPEG first."""
    unseen: bool = False
    """Whether to ask in held-out wordings."""
    word_split: Split = Split.TRAIN

    def exchanges(self, several_tiles: bool | None = None) -> tuple[Sequence[Exchange], str]:
        """A conversation of any kind, and its system message."""
        lot = self.rng.random()
        system = str(self.rng.choice(SYSTEM_MESSAGES, p=SYSTEM_SHARES))
        if lot < 0.05:
            return self.text_only(), system
        if lot < 0.11:
            return self.with_tools()
        if lot < 0.24:
            return self.several(), system
        if lot < 0.34:
            return self.video(), system
        if lot < 0.44:
            return self.added_later(), system
        return self.one_picture(), system

    def one_picture(self, topic: Topic | None = None, turns: int | None = None) -> list[Exchange]:
        topic = topic or self.topic(self.size())
        return self._about([self._picture(topic.drawing)], self._turns(topic, turns))

    def text_only(self) -> list[Exchange]:
        talk = TalkQuestions(self.rng, self.unseen)
        asks = [talk.small_talk, talk.small_talk, talk.without_picture, ToolQuestions(self.rng, self.unseen).refused]
        picked = [asks[int(self.rng.choice(4, p=[0.4, 0.2, 0.3, 0.1]))] for _ in range(int(self.rng.integers(1, 4)))]
        return [Exchange((turn.question,), turn) for turn in (ask() for ask in picked)]

    def with_tools(self) -> tuple[list[Exchange], str]:
        """Tools in the system message; now and then a picture as well."""
        tools = ToolQuestions(self.rng, self.unseen)
        if self.rng.random() < 0.6:
            system, turns = tools.offer(TalkQuestions(self.rng, self.unseen).small_talk)
            return [Exchange((turn.question,), turn) for turn in turns], system
        topic = self.topic(single_tile_size(self.rng))
        system, turns = tools.offer(topic.ask)
        return self._about([self._picture(topic.drawing)], turns), system

    def several(self) -> list[Exchange]:
        """Two to four pictures of one thing each."""
        scenes = self.comparable(int(self.rng.choice([2, 3, 4], p=[0.5, 0.3, 0.2])))
        parts: list[UserPart] = []
        for number, scene in enumerate(scenes, start=1):
            parts += [f"Image-{number}: ", self._picture(shapes.drawing(scene), SINGLE_TILE), "\n"]
        questions = SeveralQuestions(self.rng, self.unseen)
        turns = _several(partial(questions.about, scenes), int(self.rng.integers(1, 5)))
        return self._about(parts[:-1], turns)

    def video(self) -> list[Exchange]:
        video = VideoMaker(self.split, self.rng).video()
        increment = self._increment()
        parts: list[UserPart] = []
        drawings = {id(frame): shapes.drawing(frame) for frame in video.frames}
        for number, frame in enumerate(video.frames, start=1):
            parts += [f"Frame{number}: ", self._picture(drawings[id(frame)], SINGLE_TILE, increment), "\n"]
        questions = VideoQuestions(self.rng, self.unseen)
        return self._about(parts[:-1], _several(partial(questions.about, video), int(self.rng.integers(1, 4))))

    def added_later(self) -> list[Exchange]:
        """A picture that comes after other talk, or after another picture."""
        lot = self.rng.random()
        if lot < 0.35:
            return self.text_only()[:2] + self.one_picture(turns=int(self.rng.integers(1, 4)))
        if lot < 0.65:
            first, second = (self.one_picture(turns=int(self.rng.integers(1, 3))) for _ in range(2))
            return first + second
        scenes = self.comparable(2)
        exchanges: list[Exchange] = []
        for scene in scenes:
            topic = Topic(shapes.drawing(scene), partial(ShapeQuestions(self.rng, self.unseen).about, scene), scene)
            exchanges += self.one_picture(topic, turns=int(self.rng.integers(1, 3)))
        turn = SeveralQuestions(self.rng, self.unseen).what_in(scenes)
        return [*exchanges, Exchange((turn.question,), turn)]

    def topic(self, size: Size) -> Topic:
        """A picture of any kind."""
        kinds = (self.digit, self.shapes, self.sheet, self.chart, self.window, self.unknown)
        return kinds[int(self.rng.choice(len(kinds), p=[0.18, 0.36, 0.2, 0.13, 0.09, 0.04]))](size)

    def digit(self, size: Size) -> Topic:
        return self._scene(SceneMaker(self.split, self.rng).digit(size))

    def shapes(self, size: Size) -> Topic:
        return self._scene(random_shapes(SceneMaker(self.split, self.rng), size))

    def _scene(self, scene: Scene) -> Topic:
        return Topic(shapes.drawing(scene), partial(ShapeQuestions(self.rng, self.unseen).about, scene), scene)

    def sheet(self, size: Size) -> Topic:
        sheet = SheetMaker(self.split, self.rng, self.word_split).sheet(size)
        return Topic(sheets.drawing(sheet), partial(SheetQuestions(self.rng, self.unseen).about, sheet))

    def chart(self, size: Size) -> Topic:
        chart = ChartMaker(self.split, self.rng).chart(size)
        return Topic(charts.drawing(chart), partial(ChartQuestions(self.rng, self.unseen).about, chart))

    def window(self, size: Size) -> Topic:
        window = WindowMaker(self.split, self.rng).window(size)
        return Topic(windows.drawing(window), partial(WindowQuestions(self.rng, self.unseen).about, window))

    def unknown(self, size: Size) -> Topic:
        drawing = PhotographMaker(self.split, self.rng).drawing(size)
        return Topic(drawing, TalkQuestions(self.rng, self.unseen).about_unknown)

    def size(self) -> Size:
        several = self.rng.random() < SEVERAL_TILES_SHARE
        return several_tiles_size(self.rng) if several else single_tile_size(self.rng)

    def comparable(self, count: int) -> list[Scene]:
        """Pictures of one thing each, alike in name or colour more often than by chance."""
        maker, size = SceneMaker(self.split, self.rng), (TILE_SIZE, TILE_SIZE)
        color, shape, value = maker.color(), maker.shape(), int(self.rng.integers(10))
        digits_share = float(self.rng.choice([0.0, 0.5, 1.0]))
        alike = float(self.rng.choice([0.2, 0.5, 0.75]))
        scenes = []
        for _ in range(count):
            same_name, same_color = self.rng.random(2) < (alike, 0.4)
            kept_color = color if same_color else None
            if self.rng.random() < digits_share:
                scenes.append(maker.digit(size, value=value if same_name else None, color=kept_color))
            else:
                scenes.append(maker.same(1, size, shape=shape if same_name else None, color=kept_color))
        return scenes

    def _turns(self, topic: Topic, count: int | None) -> list[Turn]:
        """Questions about a topic; now and then small talk in between."""
        count = count or int(self.rng.choice(TURNS, p=TURN_SHARES))
        talk = TalkQuestions(self.rng, self.unseen)
        turns: list[Turn] = []
        for index in range(count):
            turns.append(talk.small_talk() if index and self.rng.random() < 0.05 else _new(topic.ask, turns))
        return turns

    def _about(self, visuals: Sequence[UserPart], turns: Sequence[Turn]) -> list[Exchange]:
        """Pictures in the first message, before its question or, rarely, behind it."""
        first, *rest = turns
        behind = len(visuals) == 1 and self.rng.random() < 0.08
        parts = (first.question, "\n", *visuals) if behind else (*visuals, "\n", first.question)
        return [Exchange(parts, first), *(Exchange((turn.question,), turn) for turn in rest)]

    def _picture(self, drawing: Drawing, tiling: TilingOptions = TILING, increment: int | None = None) -> Picture:
        if self.jpeg and self.rng.random() < 0.3:
            drawing = compressed(drawing, int(self.rng.integers(60, 101)))
        tiles = tiled(drawing, tiling)
        return Picture(tiles.pixels, increment or self._increment(), tiles.labels)

    def _increment(self) -> int:
        return self.increment or INCREMENTS[int(self.rng.integers(len(INCREMENTS)))]


def _new(ask: Callable[[], Turn], turns: Sequence[Turn], tries: int = 5) -> Turn:
    """A turn whose answer cannot be copied from an earlier one, if there is one within a few tries."""
    said = {turn.answer for turn in turns}
    for _ in range(tries):
        turn = ask()
        if turn.answer not in said:
            break
    return turn


def _several(ask: Callable[[], Turn], count: int) -> list[Turn]:
    turns: list[Turn] = []
    for _ in range(count):
        turns.append(_new(ask, turns))
    return turns


def example(talker: Talker, tokenizer: PreTrainedTokenizerBase) -> Example:
    """A conversation of any kind."""
    exchanges, system = talker.exchanges()
    return conversation(tokenizer, exchanges, system)
