"""Replies held to a grammar, drawn from random logits: what a model that understands nothing would say."""

from dataclasses import dataclass

import torch

from llm_service.engine.grammar import Grammars
from llm_service.engine.interface import SamplingParameters
from llm_service.engine.pytorch.sampler import SamplingRow, sample


@dataclass(frozen=True)
class Reply:
    """What was drawn. `has_ended`: by itself, in front of the stop token."""

    token_ids: list[int]
    has_ended: bool


def random_reply(
    grammars: Grammars, text: str, *, seed: int, stop_token_id: int, vocabulary: int, max_tokens: int
) -> Reply:
    """Sharp logits, so that some tokens repeat, as a small model repeats itself."""
    generator = torch.Generator().manual_seed(seed)
    parameters = SamplingParameters(seed=seed, temperature=1.0)
    constraint = grammars.compile(text).result().begin([])
    token_ids: list[int] = []
    while len(token_ids) < max_tokens:
        allowed = constraint.mask()
        assert allowed is not None, constraint.failure
        logits = torch.randn(1, vocabulary, generator=generator) * 3
        (token,) = sample(logits, [SamplingRow(parameters, len(token_ids), None, allowed=allowed)])
        if token.token_id == stop_token_id:
            return Reply(token_ids, has_ended=True)
        token_ids.append(token.token_id)
        constraint.advance(token.token_id)
    return Reply(token_ids, has_ended=False)
