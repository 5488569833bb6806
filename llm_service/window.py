"""Places of a prompt and its reply in the positions the model was trained on: step 7 of the data's path, settled ahead.

Knows counts of positions only. Past the trained window a request can go in one way: with dynamic NTK, as the released
models are configured, where no image of it uses V2PE: the V2PE repository switches dynamic NTK off. The rotation is
stretched for the prompt's own length, as the original code does for a reply's first token: so a reply does not depend
on `max_tokens`, and a prompt inside the window is not stretched, wherever its reply ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from internvl.errors import PromptTooLong
from llm_service.conversation import Auto, Visual
from llm_service.positions import INCREMENTS, TICKS
from llm_service.prompt import Prompt


@dataclass(frozen=True)
class Fit:
    """How one request lies in the window."""

    increments: dict[Visual, int]
    """Ticks per visual token."""
    max_tokens: int
    ntk_length: int = 0
    """Positions of the prompt where it exceeds the trained window, else 0."""


@dataclass(frozen=True)
class Window:
    """Limits of one model, as one operator configured it."""

    trained: int
    """Positions the model was trained on."""
    default_max_tokens: int
    """Tokens of a reply that names no limit."""
    stretched: int = 0
    """Positions a request without V2PE may take with dynamic NTK; not more than `trained`: never past it."""

    @property
    def max_positions(self) -> int:
        """Positions of the longest request there can be."""
        return max(self.trained, self.stretched)

    def refuse_visuals(self, visuals: Sequence[Visual]) -> None:
        """Raises PromptTooLong for images that alone exceed the window, before their tokens are laid out."""
        increments = (INCREMENTS[-1] if isinstance(v.increment, Auto) else v.increment for v in visuals)
        used = sum(-(-v.token_count * ticks // TICKS) for v, ticks in zip(visuals, increments, strict=True))
        if used > self.max_positions:
            raise PromptTooLong(f"the images take {used} positions, the window has {self.max_positions}")

    def fit(self, prompt: Prompt, visuals: Sequence[Visual], max_tokens: int | None) -> Fit:
        """Settles `auto` increments and the length of the reply. Raises PromptTooLong with the numbers.

        `auto` becomes the largest increment with which prompt and reply fit the trained window; images that name one
        keep it. A reply that names no length is shortened to what is left.
        """
        wanted = self.default_max_tokens if max_tokens is None else max_tokens
        is_auto = any(visual.increment is Auto.AUTO for visual in visuals)
        for auto in INCREMENTS if is_auto else INCREMENTS[:1]:
            increments = {v: auto if isinstance(v.increment, Auto) else v.increment for v in visuals}
            used = _position_count(prompt, increments)
            if used + wanted <= self.trained:
                return Fit(increments, wanted)
        if max_tokens is None and used < self.trained:
            return Fit(increments, self.trained - used)
        uses_v2pe = any(increment != TICKS for increment in increments.values())
        limit = self.trained if uses_v2pe else self.max_positions
        reply = wanted if max_tokens is not None else min(wanted, limit - used)
        if 0 < reply <= limit - used:
            return Fit(increments, reply, ntk_length=used if used > self.trained else 0)
        raise PromptTooLong(f"the prompt takes {used} positions and the reply {wanted}, the window has {limit}")


def _position_count(prompt: Prompt, increments: dict[Visual, int]) -> int:
    """Whole positions of a prompt: one a text token, and what its images and frames advance, rounded up."""
    count, ticks = len(prompt.token_ids), 0
    for frame in (placed.frame for placed in prompt.frames):
        ticks += frame.token_count * increments[frame.visual]
        count -= frame.token_count
        if frame.closes:
            count, ticks = count + -(-ticks // TICKS), 0
    return count
