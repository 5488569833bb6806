"""Places of a prompt and its reply in the positions the model was trained on: step 7 of the data's path, settled ahead.

Knows counts of positions only. Past the trained window a request can go in one way: with dynamic NTK, as the released
models are configured, where no image of it uses V2PE: the V2PE repository
switches dynamic NTK off.
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
    """Positions of prompt and reply where they go past the trained window, else 0."""


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
            return Fit(increments, reply, ntk_length=used + reply)
        raise PromptTooLong(f"the prompt takes {used} positions and the reply {wanted}, the window has {limit}")


def _position_count(prompt: Prompt, increments: dict[Visual, int]) -> int:
    """Whole positions of a prompt: one a text token, and what its frames advance, rounded up."""
    counts = [(placed.frame.token_count, increments[placed.frame.visual]) for placed in prompt.frames]
    text_count = len(prompt.token_ids) - sum(count for count, _ in counts)
    return text_count + sum(-(-count * increment // TICKS) for count, increment in counts)
