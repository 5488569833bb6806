"""Logits to tokens. A draw is a function of (seed, token index) only, so that a reply can be resumed anywhere.

Order: penalties as in transformers, bias, what grammar and min_tokens forbid, temperature, top-k, top-p, min-p, draw.
Log-probabilities are those of the model, before all of it. Legend: S rows, K vocabulary.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from llm_service.engine.interface import Logprob, SamplingParameters
from llm_service.engine.pytorch.draw import draw
from llm_service.engine.pytorch.penalties import History, penalize

_MASK64 = (1 << 64) - 1


@dataclass(frozen=True)
class SamplingRow:
    """Everything that decides the choice from one row of logits."""

    parameters: SamplingParameters
    token_index: int
    """Index of the token in the reply."""
    history: History | None
    """None where there are no penalties."""
    barred_ids: Collection[int] = ()
    """Tokens that may not be chosen."""
    allowed: torch.Tensor | None = None
    """Tokens that the grammar allows, bool (at most K,); those past its end it does not."""

    @property
    def is_plain(self) -> bool:
        """Whether the choice is by the model's own logits."""
        return not (self.history or self.parameters.logit_bias or self.barred_ids) and self.allowed is None


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
    """The likeliest token of each row once adjusted, or where there is a temperature a draw. Copies no other row."""
    drawn = [index for index, row in enumerate(rows) if row.parameters.temperature > 0]
    changed = [index for index, row in enumerate(rows) if row.parameters.temperature <= 0 and not row.is_plain]
    token_ids: list[int] = [0] * len(rows)
    if len(drawn) + len(changed) < len(rows):
        token_ids = logits.argmax(dim=-1).tolist()
    if changed:
        best = _adjusted(logits[changed], [rows[index] for index in changed]).argmax(dim=-1)
        for index, token_id in zip(changed, best.tolist(), strict=True):
            token_ids[index] = token_id
    if drawn:
        parameters = [rows[index].parameters for index in drawn]
        scores = _adjusted(logits[drawn], [rows[index] for index in drawn])
        scores /= torch.tensor([each.temperature for each in parameters], device=logits.device)[:, None]
        numbers = [uniform(rows[index].parameters.seed, rows[index].token_index) for index in drawn]
        for index, token_id in zip(drawn, draw(scores, parameters, numbers), strict=True):
            token_ids[index] = token_id
    return token_ids


def _adjusted(scores: torch.Tensor, rows: Sequence[SamplingRow]) -> torch.Tensor:
    """Changes float32 logits (S, K) and returns them: what may not be chosen is minus infinity."""
    histories = {index: row.history for index, row in enumerate(rows) if row.history is not None}
    if histories:
        penalized = scores[list(histories)]
        penalize(penalized, list(histories.values()), [rows[index].parameters for index in histories])
        scores[list(histories)] = penalized
    for own, row in zip(scores, rows, strict=True):
        for token_id, bias in row.parameters.logit_bias:
            own[token_id] += bias
        if row.barred_ids:
            own[list(row.barred_ids)] = float("-inf")
        if row.allowed is not None:
            allowed = row.allowed[: len(own)].to(own.device)
            own[: len(allowed)].masked_fill_(~allowed, float("-inf"))
            own[len(allowed) :] = float("-inf")
    return scores


def _logprobs(
    logits: torch.Tensor, rows: Sequence[SamplingRow], token_ids: Sequence[int]
) -> dict[int, tuple[Logprob, tuple[Logprob, ...]]]:
    """The choice and the likeliest tokens, by index of the rows that want them."""
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
