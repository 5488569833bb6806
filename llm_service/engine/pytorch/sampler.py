"""Logits to tokens. A draw is a function of (seed, token index) only, so that a reply can be resumed anywhere.

Order, as in transformers: penalties, temperature, top-k, top-p, min-p, draw. Log-probabilities are those of the model,
before all of it. Legend: S rows, K vocabulary.
"""

from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence as Ordered
from dataclasses import dataclass

import torch

from llm_service.engine.interface import Logprob, SamplingParameters
from llm_service.engine.pytorch.draw import draw

_MASK64 = (1 << 64) - 1


@dataclass(frozen=True)
class SamplingRow:
    """What one row of logits is sampled by."""

    parameters: SamplingParameters
    prompt_ids: Ordered[int]
    """Text tokens of the prompt; visual slots do not count as seen."""
    reply_ids: Ordered[int]


@dataclass(frozen=True)
class SampledToken:
    """A choice, and what the model thought of it."""

    token_id: int
    logprob: Logprob | None
    alternatives: tuple[Logprob, ...]


def sample(logits: torch.Tensor, rows: Ordered[SamplingRow]) -> list[SampledToken]:
    """One token for each row of float32 logits (S, K), which are left as they are."""
    adjusted = {index: _penalized(logits[index], row) for index, row in enumerate(rows) if _has_penalty(row.parameters)}
    token_ids = _choose(logits, adjusted, rows)
    thoughts = _logprobs(logits, rows, token_ids)
    return [SampledToken(token_id, *thoughts.get(index, (None, ()))) for index, token_id in enumerate(token_ids)]


def _choose(logits: torch.Tensor, adjusted: Mapping[int, torch.Tensor], rows: Ordered[SamplingRow]) -> list[int]:
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
        numbers = [uniform(rows[index].parameters.seed, len(rows[index].reply_ids)) for index in drawn]
        for index, token_id in zip(drawn, draw(scores, parameters, numbers), strict=True):
            token_ids[index] = token_id
    return token_ids


def _logprobs(
    logits: torch.Tensor, rows: Ordered[SamplingRow], token_ids: Ordered[int]
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


def _has_penalty(parameters: SamplingParameters) -> bool:
    return (parameters.repetition_penalty, parameters.presence_penalty, parameters.frequency_penalty) != (1.0, 0.0, 0.0)


def _penalized(logits: torch.Tensor, row: SamplingRow) -> torch.Tensor:
    parameters = row.parameters
    logits = logits.clone()
    seen = torch.tensor(sorted({*row.prompt_ids, *row.reply_ids}), device=logits.device)
    scores = logits[seen]
    penalty = parameters.repetition_penalty
    logits[seen] = torch.where(scores > 0, scores / penalty, scores * penalty)
    counts = Counter(row.reply_ids)
    if counts:
        repeated = torch.tensor(list(counts), device=logits.device)
        times = torch.tensor(list(counts.values()), dtype=logits.dtype, device=logits.device)
        logits[repeated] -= parameters.presence_penalty + parameters.frequency_penalty * times
    return logits


def uniform(seed: int, index: int) -> float:
    """A number in [0, 1) that depends on nothing else: SplitMix64 over seed and token index."""
    state = (_mix(seed & _MASK64) + (index + 1) * 0x9E3779B97F4A7C15) & _MASK64
    return (_mix(state) >> 11) / (1 << 53)


def _mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK64
    return value ^ (value >> 31)
