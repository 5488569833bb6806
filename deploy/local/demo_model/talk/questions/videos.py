"""Questions about videos."""

from dataclasses import dataclass

from deploy.local.demo_model.drawing.videos import Change, Video
from deploy.local.demo_model.talk import phrases
from deploy.local.demo_model.talk.questions.shapes import noun
from deploy.local.demo_model.talk.turns import Askers, Questions, Skill, Turn, article, plural, there_are

_WAYS = {"left": "to the left", "right": "to the right", "up": "up", "down": "down"}


@dataclass(frozen=True)
class VideoQuestions(Questions):
    """Asks about one video."""

    def about(self, video: Video) -> Turn:
        """Any question about the video."""
        happens: Askers = [(2, lambda: self.turn(Skill.VIDEO, phrases.VIDEO_WHAT, self._happening(video)))]
        if video.zones is not None:
            return self.ask([*happens, (4, lambda: self._which_way(video))])
        change: Askers = [(2, lambda: self.turn(Skill.VIDEO, phrases.WHAT_CHANGES, self._happening(video)))]
        counting: Askers = [(1.5, lambda: self._count(video))]
        return self.ask([*happens, *change, *counting])

    def _which_way(self, video: Video) -> Turn:
        assert video.zones is not None
        start, end = video.zones
        answer = f"It stays at the {start}, so it does not move."
        if video.direction is not None:
            answer = f"It goes from the {start} to the {end}, so it moves {_WAYS[video.direction]}."
        return self.turn(Skill.VIDEO, phrases.WHICH_WAY, answer, thing=noun(video.thing))

    def _happening(self, video: Video) -> str:
        thing = video.thing
        name = f"{thing.color} {noun(thing)}"
        if video.change is Change.MOVES:
            assert video.zones is not None
            return f"The {name} goes from the {video.zones[0]} to the {video.zones[1]}."
        if video.change is Change.TURNS:
            return f"The {noun(thing)} turns from {thing.color} to {video.last_color}."
        if video.change is Change.APPEARS:
            return f"{article(name).capitalize()} appears."
        return "Nothing changes." if video.change is Change.NOTHING else f"{article(name).capitalize()} disappears."

    def _count(self, video: Video) -> Turn:
        name = video.thing.name
        count = sum(thing.name == name for thing in video.frames[-1].things)
        answer = f"{there_are(count, name)} at the end."
        return self.turn(Skill.VIDEO, phrases.VIDEO_COUNT, answer, things=plural(name))
