"""Logits to tokens. A draw is a function of (seed, token index) only, so that a reply can be resumed anywhere.

Order, as in transformers: penalties, temperature, top-k, top-p, min-p, draw. Log-probabilities are those of the model,
before all of it. Legend: S rows, K vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from llm_service.engine.interface import Logprob, SamplingParameters
from llm_service.engine.pytorch.draw import draw
from llm_service.engine.pytorch.penalties import History, penalize

_MASK64 = (1 << 64) - 1


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
    token_ids = _choose(logits, rows)
    thoughts = _logprobs(logits, rows, token_ids)
    return [SampledToken(token_id, *thoughts.get(index, (None, ()))) for index, token_id in enumerate(token_ids)]


def _choose(logits: torch.Tensor, rows: Sequence[SamplingRow]) -> list[int]:
    """The likeliest token of each row after penalties, or where there is a temperature a draw. Copies no other row."""
    best = logits.argmax(dim=-1)
    histories = {index: row.history for index, row in enumerate(rows) if row.history is not None}
    if histories:
        adjusted = logits[list(histories)]
        penalize(adjusted, list(histories.values()), [rows[index].parameters for index in histories])
        best[list(histories)] = adjusted.argmax(dim=-1)
    token_ids: list[int] = best.tolist()
    drawn = [index for index, row in enumerate(rows) if row.parameters.temperature > 0]
    if drawn:
        scores = logits[drawn]
        if both := [index for index in drawn if index in histories]:
            places = list(histories)
            scores[[drawn.index(index) for index in both]] = adjusted[[places.index(index) for index in both]]
        parameters = [rows[index].parameters for index in drawn]
        scores /= torch.tensor([each.temperature for each in parameters], device=logits.device)[:, None]
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
