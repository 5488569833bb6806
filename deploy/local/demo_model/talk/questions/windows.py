"""Questions about a program's window: what its buttons say, and where to click."""

import json
from dataclasses import dataclass

from deploy.local.demo_model.drawing.windows import CAPTIONS, CLOSE, Button, Window
from deploy.local.demo_model.talk import phrases
from deploy.local.demo_model.talk.turns import (
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
class WindowQuestions(Questions):
    """Asks about one window; the button that closes it is not among its buttons."""

    def about(self, window: Window) -> Turn:
        """Any question about the picture."""
        askers: Askers = [
            (5, lambda: self._click(window)),
            (1, lambda: self._close(window)),
            (2, lambda: self._captions(window)),
            (1, lambda: self._has(window)),
            (0.5, lambda: self._count(window)),
            (0.5, lambda: self._as_json(window)),
        ]
        return self.ask(askers)

    def _click(self, window: Window) -> Turn:
        buttons = window.buttons[1:]
        button = buttons[int(self.rng.integers(len(buttons)))]
        return self.turn(Skill.CLICK, phrases.CLICK, _box(button, window), caption=button.caption)

    def _close(self, window: Window) -> Turn:
        return self.turn(Skill.CLICK, phrases.CLOSE, _box(window.buttons[0], window))

    def _captions(self, window: Window) -> Turn:
        captions = listed([f'"{button.caption}"' for button in window.buttons[1:]])
        return self.turn(Skill.READ, phrases.BUTTONS, f"The buttons say {captions}.")

    def _has(self, window: Window) -> Turn:
        there = [button.caption for button in window.buttons[1:]]
        asked = self.pick(there if self.chance(0.5) else [caption for caption in CAPTIONS if caption not in there])
        fact = f"There is {'a' if asked in there else 'no'} button {asked}"
        return self.turn(Skill.YES_NO, phrases.HAS_BUTTON, verdict(fact, asked in there), caption=asked)

    def _count(self, window: Window) -> Turn:
        return self.turn(Skill.COUNT, phrases.BUTTON_COUNT, f"{there_are(len(window.buttons) - 1, 'button')}.")

    def _as_json(self, window: Window) -> Turn:
        captions = [button.caption for button in window.buttons if button.caption != CLOSE]
        return self.turn(Skill.JSON, phrases.AS_JSON, json.dumps({"buttons": captions}))


def _box(button: Button, window: Window) -> str:
    return grounded(button.caption, button.box, (window.width, window.height))
