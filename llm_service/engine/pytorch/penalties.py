"""Repetition, presence and frequency penalties, for many rows at once, over counts that are kept up token by token.

Legend: S rows, K vocabulary, C distinct tokens of all rows' histories.
"""

from array import array
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from llm_service.engine.interface import SamplingParameters


class History:
    """The distinct tokens of a prompt and its reply, and how often the reply has each."""

    def __init__(
        self, prompt_ids: Sequence[int], visual_ranges: Iterable[tuple[int, int]], reply_ids: Iterable[int] = ()
    ) -> None:
        """`visual_ranges`: [start, end) of the prompt's visual slots, in order. These do not count as seen."""
        self.token_ids, self.reply_counts = array("q"), array("q")
        self._places: dict[int, int] = {}
        start = 0
        for first, end in [*visual_ranges, (len(prompt_ids), 0)]:
            for token_id in prompt_ids[start:first]:
                self._place(token_id)
            start = end
        for token_id in reply_ids:
            self.add(token_id)

    def add(self, token_id: int) -> None:
        """A token of the reply."""
        self.reply_counts[self._place(token_id)] += 1

    def _place(self, token_id: int) -> int:
        place = self._places.setdefault(token_id, len(self._places))
        if place == len(self.token_ids):
            self.token_ids.append(token_id)
            self.reply_counts.append(0)
        return place


def penalize(logits: torch.Tensor, histories: Sequence[History], parameters: Sequence[SamplingParameters]) -> None:
    """Changes float32 logits (S, K): repetition applies to prompt and reply, the others to the reply alone."""
    device, lengths = logits.device, [len(history.token_ids) for history in histories]
    rows = torch.from_numpy(np.repeat(np.arange(len(histories)), lengths)).to(device)
    token_ids = _joined([history.token_ids for history in histories]).to(device)
    counts = _joined([history.reply_counts for history in histories]).to(device)
    columns = [(each.repetition_penalty, each.presence_penalty, each.frequency_penalty) for each in parameters]
    repetition, presence, frequency = torch.tensor(columns, device=device)[rows].T
    scores = logits[rows, token_ids]
    scores = torch.where(scores > 0, scores / repetition, scores * repetition)
    logits[rows, token_ids] = scores - (presence * (counts > 0) + frequency * counts)


def _joined(arrays: Sequence["array[int]"]) -> torch.Tensor:
    """int64 (C,), copied: an array cannot grow while a tensor looks into it."""
    return torch.from_numpy(np.concatenate([np.frombuffer(each, np.int64) for each in arrays]))
