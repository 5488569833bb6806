"""Questions about bar charts."""

import json
from dataclasses import dataclass

from deploy.local.demo_model.drawing.charts import Bar, Chart
from deploy.local.demo_model.talk import phrases
from deploy.local.demo_model.talk.turns import (
    STEP_END,
    Askers,
    Questions,
    Skill,
    Turn,
    grounded,
    listed,
    there_are,
    verdict,
)  # fmt: skip


@dataclass(frozen=True)
class ChartQuestions(Questions):
    """Asks about one chart."""

    def about(self, chart: Chart) -> Turn:
        """Any question about the picture."""
        highest, lowest = max(chart.bars, key=_value), min(chart.bars, key=_value)
        askers: Askers = [
            (4, lambda: self._bar_value(chart)),
            (
                2,
                lambda: self.turn(
                    Skill.CHART, phrases.HIGHEST, f"The {highest.color} bar is the highest, with {highest.value}."
                ),
            ),
            (
                1.5,
                lambda: self.turn(
                    Skill.CHART, phrases.LOWEST, f"The {lowest.color} bar is the lowest, with {lowest.value}."
                ),
            ),
            (1, lambda: self.turn(Skill.COUNT, phrases.BAR_COUNT, f"{there_are(len(chart.bars), 'bar')}.")),
            (1.5, lambda: self._higher(chart)),
            (1.5, lambda: self.sum(chart)),
            (1.5, lambda: self.describe(chart)),
            (1, lambda: self._where(chart)),
            (0.7, lambda: self._as_json(chart)),
        ]
        return self.ask(askers)

    def describe(self, chart: Chart) -> Turn:
        bars = listed([f"{bar.color} {bar.value}" for bar in chart.bars])
        return self.turn(Skill.CHART, phrases.DESCRIBE, f"The chart shows {bars}.")

    def sum(self, chart: Chart) -> Turn:
        """Two bars added, step by step."""
        one, other = self._two(chart)
        steps = [
            f"The {one.color} bar has {one.value}.",
            f"The {other.color} bar has {other.value}.",
            f"{one.value} + {other.value} = {one.value + other.value}.",
        ]
        words = {"color": one.color, "other": other.color}
        return self.turn(Skill.STEPS, phrases.CHART_SUM, STEP_END.join(steps), **words)

    def _bar_value(self, chart: Chart) -> Turn:
        bar = chart.bars[int(self.rng.integers(len(chart.bars)))]
        return self.turn(Skill.CHART, phrases.BAR_VALUE, f"The {bar.color} bar has {bar.value}.", color=bar.color)

    def _higher(self, chart: Chart) -> Turn:
        one, other = self._two(chart)
        fact = f"The {one.color} bar has {one.value} and the {other.color} bar {other.value}"
        answer = verdict(fact, one.value > other.value)
        return self.turn(Skill.YES_NO, phrases.HIGHER, answer, color=one.color, other=other.color)

    def _where(self, chart: Chart) -> Turn:
        index = int(self.rng.integers(len(chart.bars)))
        name = f"{chart.bars[index].color} bar"
        return self.turn(
            Skill.GROUND, phrases.WHERE, grounded(name, chart.box(index), (chart.width, chart.height)), thing=name
        )

    def _as_json(self, chart: Chart) -> Turn:
        return self.turn(Skill.JSON, phrases.AS_JSON, json.dumps({bar.color: bar.value for bar in chart.bars}))

    def _two(self, chart: Chart) -> tuple[Bar, Bar]:
        one, other = self.rng.choice(len(chart.bars), 2, replace=False)
        return chart.bars[int(one)], chart.bars[int(other)]


def _extreme(bar: Bar, which: str) -> str:
    return f"The {bar.color} bar is the {which}, with {bar.value}."


def _value(bar: Bar) -> int:
    return bar.value
