"""Logits to tokens. A draw is a function of (seed, token index) only, so that a reply can be resumed anywhere.

Order, as in transformers: penalties, temperature, top-k, top-p, min-p, draw. Log-probabilities are those of the model,
before all of it. Legend: S rows, K vocabulary.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from llm_service.engine.interface import Logprob, SamplingParameters
from llm_service.engine.pytorch.draw import draw

_MASK64 = (1 << 64) - 1


class History:
    """The distinct tokens of a prompt and its reply, as penalties need them: kept up, not collected at each step."""

    def __init__(
        self, prompt_ids: Sequence[int], visual_ranges: Iterable[tuple[int, int]], reply_ids: Iterable[int] = ()
    ) -> None:
        """`visual_ranges`: [start, end) of the prompt's visual slots, in order. These do not count as seen."""
        self._places: dict[int, int] = {}
        self._token_ids, self._times = array("q"), array("q")
        start = 0
        for first, end in [*visual_ranges, (len(prompt_ids), 0)]:
            for token_id in prompt_ids[start:first]:
                self._place(token_id)
            start = end
        for token_id in reply_ids:
            self.add(token_id)

    def add(self, token_id: int) -> None:
        """A token of the reply."""
        self._times[self._place(token_id)] += 1

    def penalized(self, logits: torch.Tensor, parameters: SamplingParameters) -> torch.Tensor:
        """A copy of float32 logits (K,) with the penalties applied."""
        if not self._token_ids:
            return logits
        # Views, not copies: gone before the arrays can grow.
        views = (torch.frombuffer(each, dtype=torch.int64) for each in (self._token_ids, self._times))
        seen, times = (view.to(logits.device) for view in views)
        scores, penalty = logits[seen], parameters.repetition_penalty
        scores = torch.where(scores > 0, scores / penalty, scores * penalty)
        scores -= parameters.presence_penalty * (times > 0) + parameters.frequency_penalty * times
        return logits.scatter(0, seen, scores)

    def _place(self, token_id: int) -> int:
        place = self._places.setdefault(token_id, len(self._places))
        if place == len(self._token_ids):
            self._token_ids.append(token_id)
            self._times.append(0)
        return place


@dataclass(frozen=True)
class SamplingRow:
    """What one row of logits is sampled by."""

    parameters: SamplingParameters
    token_index: int
    """Index of the token in the reply."""
    history: History | None
    """None where there are no penalties."""


@dataclass(frozen=True)
class SampledToken:
    """A choice, and what the model thought of it."""

    token_id: int
    logprob: Logprob | None
    alternatives: tuple[Logprob, ...]


def sample(logits: torch.Tensor, rows: Sequence[SamplingRow]) -> list[SampledToken]:
    """One token for each row of float32 logits (S, K), which are left as they are."""
    adjusted = {
        index: row.history.penalized(logits[index], row.parameters)
        for index, row in enumerate(rows)
        if row.history is not None
    }
    token_ids = _choose(logits, adjusted, rows)
    thoughts = _logprobs(logits, rows, token_ids)
    return [SampledToken(token_id, *thoughts.get(index, (None, ()))) for index, token_id in enumerate(token_ids)]


def _choose(logits: torch.Tensor, adjusted: Mapping[int, torch.Tensor], rows: Sequence[SamplingRow]) -> list[int]:
    best = logits.argmax(dim=-1)
    for index, scores in adjusted.items():
        best[index] = scores.argmax()
    token_ids: list[int] = best.tolist()
    drawn = [index for index, row in enumerate(rows) if row.parameters.temperature > 0]
    if drawn:
        parameters = [rows[index].parameters for index in drawn]
        temperatures = torch.tensor([each.temperature for each in parameters], device=logits.device)
        scores = logits[drawn]
        for place, index in enumerate(drawn):
            if index in adjusted:
                scores[place] = adjusted[index]
        scores /= temperatures[:, None]
        numbers = [uniform(rows[index].parameters.seed, rows[index].token_index) for index in drawn]
        for index, token_id in zip(drawn, draw(scores, parameters, numbers), strict=True):
            token_ids[index] = token_id
    return token_ids


def _logprobs(
    logits: torch.Tensor, rows: Sequence[SamplingRow], token_ids: Sequence[int]
) -> dict[int, tuple[Logprob, tuple[Logprob, ...]]]:
    """Of the rows that want them: the choice, and the likeliest tokens."""
    counts = {
        index: row.parameters.top_logprob_count
        for index, row in enumerate(rows)
        if row.parameters.top_logprob_count is not None
    }
    if not counts:
        return {}
    wanted = list(counts)
    logprobs = logits[wanted].log_softmax(dim=-1)
    chosen = logprobs.gather(1, torch.tensor([[token_ids[index]] for index in wanted], device=logits.device)).tolist()
    values, indices = (best.tolist() for best in logprobs.topk(max(counts.values())))
    return {
        index: (
            Logprob(token_ids[index], chosen[place][0]),
            tuple(map(Logprob, indices[place][: counts[index]], values[place][: counts[index]])),
        )
        for place, index in enumerate(wanted)
    }


def uniform(seed: int, index: int) -> float:
    """A number in [0, 1) that depends on nothing else: SplitMix64 over seed and token index."""
    state = (_mix(seed & _MASK64) + (index + 1) * 0x9E3779B97F4A7C15) & _MASK64
    return (_mix(state) >> 11) / (1 << 53)


def _mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK64
    return value ^ (value >> 31)
