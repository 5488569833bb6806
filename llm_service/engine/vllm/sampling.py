"""Sampling inside vLLM as in `llm_service.engine.pytorch.sampler`: a function of (seed, token index) and logits.

vLLM's own seeded draws depend on how many were drawn before, so that a reply cut off could not be continued. Here the
token is chosen first, and the logits then leave vLLM no other choice. Log-probabilities are vLLM's, taken before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from llm_service.engine.interface import SamplingParameters
from llm_service.engine.pytorch.sampler import SamplingRow, sample

ARGUMENT = "internvl"
"""Under this name a request carries {parameters, prompt_count, visual_ranges}; one without is greedy, left to vLLM."""


@dataclass(frozen=True)
class _Request:
    """One row of vLLM's batch."""

    parameters: SamplingParameters
    prompt_text_ids: Sequence[int]
    resumed_ids: Sequence[int]
    reply_ids: Sequence[int]
    """vLLM's own list: it grows."""

    @classmethod
    def of(cls, arguments: dict[str, Any], token_ids: list[int], reply_ids: list[int]) -> "_Request":
        count, text, start = arguments["prompt_count"], [], 0
        for first, end in arguments["visual_ranges"]:
            text += token_ids[start:first]
            start = end
        text += token_ids[start:count]
        return cls(SamplingParameters(**arguments["parameters"]), text, token_ids[count:], reply_ids)

    def row(self) -> SamplingRow:
        return SamplingRow(self.parameters, self.prompt_text_ids, [*self.resumed_ids, *self.reply_ids])


class ReplayableSampling(LogitsProcessor):
    """vLLM makes one for each worker."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self._requests: dict[int, _Request] = {}

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
            self._requests[index] = _Request.of(arguments, prompt_ids, reply_ids)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Float32 logits (S, K), changed in place."""
        if self._requests:
            indices = list(self._requests)
            chosen = sample(logits[indices], [request.row() for request in self._requests.values()])
            logits[indices] = float("-inf")
            logits[indices, [token.token_id for token in chosen]] = 0.0
        return logits
