"""Draws from filtered distributions, for many rows at once. A draw is a function of its row and its number alone.

Sorting a vocabulary costs more than computing a small model's step. So a row without filters is drawn in the order of
the vocabulary, and one with filters from its best tokens as long as the filters end among them.

Legend: S rows, K vocabulary, B best tokens looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import torch

from llm_service.engine.interface import SamplingParameters

BEST_COUNT = 1024
"""Tokens within which top-p and min-p nearly always end."""


@dataclass(frozen=True)
class _Filters:
    """Filters of S rows, each a column (S, 1), float64 but for top_k."""

    top_k: torch.Tensor
    """The vocabulary where it is off."""
    top_p: torch.Tensor
    """Infinite where it is off: rounding may take a sum of probabilities past 1."""
    min_p: torch.Tensor

    @classmethod
    def of(cls, parameters: Sequence[SamplingParameters], vocabulary: int, device: torch.device) -> "_Filters":
        columns = [(each.top_k or vocabulary, each.top_p if each.top_p < 1 else inf, each.min_p) for each in parameters]
        top_k, top_p, min_p = torch.tensor(columns, dtype=torch.float64, device=device).T[:, :, None]
        return cls(top_k.long(), top_p, min_p)


def draw(logits: torch.Tensor, parameters: Sequence[SamplingParameters], numbers: Sequence[float]) -> list[int]:
    """A token for each row of float32 logits (S, K), by inverse transform of a number in [0, 1).

    Temperature is applied already. Filters are transformers': top-k, then top-p of what is left, then min-p.
    """
    probabilities = logits.softmax(dim=-1)
    is_filtered = [bool(each.top_k or each.min_p or each.top_p < 1) for each in parameters]
    tokens = torch.empty(len(parameters), dtype=torch.int64, device=logits.device)
    uniforms = torch.tensor(numbers, dtype=torch.float64, device=logits.device)[:, None]
    plain, filtered = ([index for index, each in enumerate(is_filtered) if each is wanted] for wanted in (False, True))
    if plain:
        tokens[plain] = _place(probabilities[plain], uniforms[plain])
    if filtered:
        filters = _Filters.of([parameters[index] for index in filtered], logits.shape[-1], logits.device)
        tokens[filtered] = _draw_filtered(probabilities[filtered], filters, uniforms[filtered])
    return [int(token) for token in tokens.tolist()]


def _draw_filtered(probabilities: torch.Tensor, filters: _Filters, uniforms: torch.Tensor) -> torch.Tensor:
    """Token ids (S,): of the best tokens where these decide, else of the whole row, sorted."""
    vocabulary = probabilities.shape[-1]
    best, token_ids = probabilities.topk(min(BEST_COUNT, vocabulary))
    ranks, is_decided = _draw_ranked(best, filters, uniforms, vocabulary)
    tokens = token_ids.gather(1, ranks[:, None])[:, 0]
    rest = (~is_decided).nonzero()[:, 0]
    if len(rest):
        best, token_ids = probabilities[rest].sort(descending=True, stable=True)
        some = _Filters(filters.top_k[rest], filters.top_p[rest], filters.min_p[rest])
        ranks, _ = _draw_ranked(best, some, uniforms[rest], vocabulary)
        tokens[rest] = token_ids.gather(1, ranks[:, None])[:, 0]
    return tokens


def _draw_ranked(
    best: torch.Tensor, filters: _Filters, uniforms: torch.Tensor, vocabulary: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ranks int64 (S,) drawn among the best probabilities (S, B), and whether B were enough to know."""
    best_count = best.shape[-1]
    places = torch.arange(best_count, device=best.device)
    # Top-k: those that are left sum to 1 again. Without it they are probabilities of the whole vocabulary already.
    candidates = best.double() * (places < filters.top_k)
    if_all = torch.ones_like(uniforms)
    candidates /= torch.where(filters.top_k < vocabulary, candidates.sum(dim=-1, keepdim=True), if_all)
    # Top-p keeps a token while those before it have not reached p, so that the one that reaches it stays; min-p
    # compares with the likeliest.
    before = candidates.cumsum(dim=-1) - candidates
    is_kept = (before < filters.top_p) & (candidates >= filters.min_p * candidates[:, :1]) & (places < filters.top_k)
    # B are enough if top-k ends among them, or if there is none and the others left a token of them out: then they
    # leave out all that are less likely. With a top-k between B and the vocabulary the sum above is not known.
    is_inside = is_kept.sum(dim=-1, keepdim=True) < best_count
    is_decided = (filters.top_k <= best_count) | ((filters.top_k >= vocabulary) & is_inside)
    return _place(candidates * is_kept, uniforms), is_decided[:, 0]


def _place(weights: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Where in its row of weights (S, N) each number falls, int64 (S,). Never on a weight of 0."""
    cumulative = weights.cumsum(dim=-1, dtype=torch.float64)
    places = torch.searchsorted(cumulative, cumulative[:, -1:] * uniforms, right=True)
    return places[:, 0].clamp(max=weights.shape[-1] - 1)
