"""Questions about printed words and numbers."""

import json
from dataclasses import dataclass

from deploy.local.demo_model.drawing.printed.sheets import Line, Sheet
from deploy.local.demo_model.talk import phrases
from deploy.local.demo_model.talk.turns import (
    ORDINALS,
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
class SheetQuestions(Questions):
    """Asks about one sheet."""

    def about(self, sheet: Sheet) -> Turn:
        """Any question about the picture."""
        askers: Askers = [
            (4, lambda: self.read(sheet)),
            (1, lambda: self._where(sheet)),
            (0.7, lambda: self._as_json(sheet)),
            (0.5, lambda: self.turn(Skill.COUNT, phrases.LINE_COUNT, f"{there_are(len(sheet.lines), 'line')}.")),
            (0.2, lambda: self.turn(Skill.SHAPE, phrases.WHICH_SHAPE, "There is no shape in the picture.")),
        ]
        if len(sheet.lines) == 1:
            return self.ask([*askers, (1, lambda: self._says(sheet.lines[0])), (1, lambda: self._text_color(sheet))])
        return self.ask(
            [
                *askers,
                (2, lambda: self._read_color(self._line(sheet))),
                (2, lambda: self._read_line(sheet)),
                (1, lambda: self._line_color(self._line(sheet))),
            ]
        )

    def read(self, sheet: Sheet) -> Turn:
        wordings = phrases.READ if self.chance(0.8) else phrases.DESCRIBE
        return self.turn(Skill.READ, wordings, f"It says {listed([quoted(line) for line in sheet.lines])}.")

    def _line(self, sheet: Sheet) -> Line:
        return sheet.lines[int(self.rng.integers(len(sheet.lines)))]

    def _read_color(self, line: Line) -> Turn:
        answer = f"The {line.color} text says {quoted(line)}."
        return self.turn(Skill.READ, phrases.READ_COLOR, answer, color=line.color)

    def _read_line(self, sheet: Sheet) -> Turn:
        index = int(self.rng.integers(len(sheet.lines)))
        answer = f"The {ORDINALS[index]} line says {quoted(sheet.lines[index])}."
        return self.turn(Skill.READ, phrases.READ_LINE, answer, nth=ORDINALS[index], n=str(index + 1))

    def _text_color(self, sheet: Sheet) -> Turn:
        return self.turn(Skill.COLOR, phrases.TEXT_COLOR, f"The text is {sheet.lines[0].color}.")

    def _line_color(self, line: Line) -> Turn:
        return self.turn(Skill.COLOR_OF, phrases.LINE_COLOR, f"{quoted(line)} is {line.color}.", text=line.text)

    def _says(self, line: Line) -> Turn:
        asked = line.text if self.chance(0.5) else _altered(line.text, int(self.rng.integers(1, 26)))
        return self.turn(Skill.YES_NO, phrases.SAYS, verdict(f"It says {quoted(line)}", asked == line.text), text=asked)

    def _where(self, sheet: Sheet) -> Turn:
        line = self._line(sheet)
        size = (sheet.width, sheet.height)
        if len(sheet.lines) == 1:
            return self.turn(Skill.GROUND, phrases.WHERE, grounded("text", line.box, size), thing="text")
        answer = grounded(f"{line.color} text", line.box, size)
        return self.turn(Skill.GROUND, phrases.WHERE, answer, thing=f"{line.color} text")

    def _as_json(self, sheet: Sheet) -> Turn:
        lines = [{"text": line.text, "colour": line.color} for line in sheet.lines]
        return self.turn(Skill.JSON, phrases.AS_JSON, json.dumps(lines))


def quoted(line: Line) -> str:
    return f'"{line.text}"'


def _altered(text: str, shift: int) -> str:
    """Another text of the same length: its first letter or digit is replaced."""
    first, count = ("0", 10) if text[0].isdigit() else ("A", 26)
    moved = (ord(text[0]) - ord(first) + 1 + shift % (count - 1)) % count
    return chr(ord(first) + moved) + text[1:]
