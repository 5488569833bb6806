"""Logits to tokens. A draw is a function of (seed, token index) only, so that a reply can be resumed anywhere.

Order, as in transformers: penalties, temperature, top-k, top-p, min-p, draw. Log-probabilities are those of the model,
before all of it. Legend: S rows, K vocabulary.
"""

from collections import Counter
from collections.abc import Sequence as Ordered
from dataclasses import dataclass

import torch

from llm_service.engine.interface import Logprob, SamplingParameters

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
    greedy = logits.argmax(dim=-1).tolist()
    return [
        _sample_row(logits[index], row, best) if _needs_more(row.parameters) else SampledToken(best, None, ())
        for index, (row, best) in enumerate(zip(rows, greedy, strict=True))
    ]


def _needs_more(parameters: SamplingParameters) -> bool:
    """Whether a row is more than its argmax."""
    return parameters.temperature > 0 or parameters.top_logprob_count is not None or _has_penalty(parameters)


def _has_penalty(parameters: SamplingParameters) -> bool:
    return (parameters.repetition_penalty, parameters.presence_penalty, parameters.frequency_penalty) != (1.0, 0.0, 0.0)


def _sample_row(logits: torch.Tensor, row: SamplingRow, greedy: int) -> SampledToken:
    parameters = row.parameters
    adjusted = _penalized(logits, row) if _has_penalty(parameters) else logits
    if parameters.temperature > 0:
        token_id = _draw(adjusted / parameters.temperature, parameters, index=len(row.reply_ids))
    else:
        token_id = int(adjusted.argmax()) if adjusted is not logits else greedy
    if parameters.top_logprob_count is None:
        return SampledToken(token_id, None, ())
    logprobs = logits.log_softmax(dim=-1)
    values, indices = logprobs.topk(parameters.top_logprob_count)
    alternatives = tuple(Logprob(i, v) for i, v in zip(indices.tolist(), values.tolist(), strict=True))
    return SampledToken(token_id, Logprob(token_id, float(logprobs[token_id])), alternatives)


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


def _draw(logits: torch.Tensor, parameters: SamplingParameters, *, index: int) -> int:
    """Inverse transform over the tokens that survive the filters, most probable first."""
    ranked, token_ids = _ranked(logits, parameters.top_k)
    probabilities = ranked.double().softmax(dim=-1)
    kept = probabilities >= parameters.min_p * probabilities[0]
    if parameters.top_p < 1:
        kept &= probabilities.cumsum(-1) - probabilities < parameters.top_p
    count = max(int(kept.sum()), 1)
    cumulative = probabilities[:count].cumsum(-1)
    place = torch.searchsorted(cumulative, cumulative[-1] * uniform(parameters.seed, index), right=True)
    return int(token_ids[min(int(place), count - 1)])


def _ranked(logits: torch.Tensor, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and token ids, best first; the best `top_k` unless that is 0."""
    if 0 < top_k < logits.shape[-1]:
        return logits.topk(top_k)
    return logits.sort(descending=True, stable=True)


def uniform(seed: int, index: int) -> float:
    """A number in [0, 1) that depends on nothing else: SplitMix64 over seed and token index."""
    state = (_mix(seed & _MASK64) + (index + 1) * 0x9E3779B97F4A7C15) & _MASK64
    return (_mix(state) >> 11) / (1 << 53)


def _mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK64
    return value ^ (value >> 31)
