"""Sampling inside vLLM as in `llm_service.engine.pytorch.sampler`: a function of (seed, token index) and logits.

vLLM's own seeded draws depend on how many were drawn before, so that a reply cut off could not be continued. Here the
token is chosen first, and the logits then leave vLLM no other choice. Log-probabilities are vLLM's, taken before.

For the same reason grammars are ours: vLLM's begin with the first token that vLLM draws, not inside a reply.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from transformers import AutoTokenizer
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from llm_service.engine.grammar import Constraint, Grammar, Grammars
from llm_service.engine.interface import SamplingParameters
from llm_service.engine.pytorch.sampler import SamplingRow, sample
from llm_service.prompt import PromptBuilder

ARGUMENT = "internvl"
"""Under this name a request carries {parameters, stop_ids, prompt_count, visual_ranges}; one without is greedy, left to
vLLM."""


@dataclass
class _Request:
    """One row of vLLM's batch."""

    parameters: SamplingParameters
    stop_ids: Sequence[int]
    prompt_text_ids: Sequence[int]
    resumed_ids: Sequence[int]
    reply_ids: Sequence[int]
    """vLLM's own list: it grows."""
    grammar: Future[Grammar] | None = None
    constraint: Constraint | None = None
    """Made with the first row that is drawn: the grammar is compiled while the prompt is computed."""

    @classmethod
    def of(cls, arguments: dict[str, Any], token_ids: list[int], reply_ids: list[int]) -> "_Request":
        count, text, start = arguments["prompt_count"], [], 0
        for first, end in arguments["visual_ranges"]:
            text += token_ids[start:first]
            start = end
        text += token_ids[start:count]
        parameters = SamplingParameters(**arguments["parameters"])
        return cls(parameters, arguments["stop_ids"], text, token_ids[count:], reply_ids)

    def row(self) -> SamplingRow:
        reply_ids = [*self.resumed_ids, *self.reply_ids]
        allowed = self._allowed(reply_ids)
        return SamplingRow(self.parameters, self.prompt_text_ids, reply_ids, stop_ids=self.stop_ids, allowed=allowed)

    def drawn(self, token_id: int) -> None:
        """A token was chosen; vLLM may discard it, as it does while a prompt is computed in parts."""
        if self.constraint is not None:
            self.constraint.advance(token_id)

    def _allowed(self, reply_ids: Sequence[int]) -> torch.Tensor | None:
        if self.grammar is None:
            return None
        if self.constraint is None:
            self.constraint = self.grammar.result().begin(reply_ids)
        elif self.constraint.token_count > len(reply_ids):
            self.constraint.retreat()
        assert self.constraint.token_count == len(reply_ids)
        if (allowed := self.constraint.mask()) is None:  # the reply ends, and the engine refuses what it is
            allowed = torch.zeros(max(self.stop_ids) + 1, dtype=torch.bool)
            allowed[list(self.stop_ids)] = True
        return allowed


class ReplayableSampling(LogitsProcessor):
    """vLLM makes one for each worker."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self._requests: dict[int, _Request] = {}
        self._folder = vllm_config.model_config.model

    @cached_property
    def _grammars(self) -> Grammars:
        tokenizer = AutoTokenizer.from_pretrained(self._folder)
        return Grammars(tokenizer, PromptBuilder(tokenizer, "").stop_token_id)

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """In vLLM's order: removed, added, moved."""
        if batch_update is None:
            return
        for index in batch_update.removed:
            self._requests.pop(index, None)
        for index, parameters, prompt_ids, reply_ids in batch_update.added:
            self._add(index, parameters, prompt_ids, reply_ids)
        for first, second, direction in batch_update.moved:
            moved, other = self._requests.pop(first, None), self._requests.pop(second, None)
            if moved is not None:
                self._requests[second] = moved
            if other is not None and direction is MoveDirectionality.SWAP:
                self._requests[first] = other

    def _add(self, index: int, parameters: SamplingParams, prompt_ids: list[int] | None, reply_ids: list[int]) -> None:
        self._requests.pop(index, None)
        arguments = (parameters.extra_args or {}).get(ARGUMENT)
        if arguments is not None:
            assert prompt_ids is not None
            request = self._requests[index] = _Request.of(arguments, prompt_ids, reply_ids)
            if request.parameters.grammar is not None:
                request.grammar = self._grammars.compile(request.parameters.grammar)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Float32 logits (S, K), changed in place."""
        if self._requests:
            indices = list(self._requests)
            chosen = sample(logits[indices], [request.row() for request in self._requests.values()])
            logits[indices] = float("-inf")
            logits[indices, [token.token_id for token in chosen]] = 0.0
            for request, token in zip(self._requests.values(), chosen, strict=True):
                request.drawn(token.token_id)
        return logits
