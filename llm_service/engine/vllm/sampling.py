"""Sampling inside vLLM as in `llm_service.engine.pytorch.sampler`: a function of (seed, token index) and logits.

vLLM's own seeded draws depend on how many were drawn before, so that a reply cut off could not be continued. Here the
token is chosen first, and the logits then leave vLLM no other choice. Log-probabilities are vLLM's, taken before.
"""

from collections.abc import Sequence
from typing import Any

import torch
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from llm_service.engine.interface import SamplingParameters
from llm_service.engine.pytorch.penalties import History
from llm_service.engine.pytorch.sampler import SamplingRow, sample

ARGUMENT = "internvl"
"""Under this name a request carries {parameters, prompt_count, visual_ranges}; one without is greedy, left to vLLM."""


class _Request:
    """One row of vLLM's batch."""

    def __init__(self, arguments: dict[str, Any], token_ids: Sequence[int], reply_ids: Sequence[int]) -> None:
        """`token_ids`: the prompt, and the reply it already had. `reply_ids` is vLLM's own list: it grows."""
        self._parameters = SamplingParameters(**arguments["parameters"])
        count = arguments["prompt_count"]
        self._resumed_count, self._reply_ids, self._seen_count = len(token_ids) - count, reply_ids, 0
        self._history = None
        if self._parameters.has_penalty:
            self._history = History(token_ids[:count], arguments["visual_ranges"], token_ids[count:])

    def row(self) -> SamplingRow:
        if self._history is not None:
            for token_id in self._reply_ids[self._seen_count :]:
                self._history.add(token_id)
            self._seen_count = len(self._reply_ids)
        return SamplingRow(self._parameters, self._resumed_count + len(self._reply_ids), self._history)


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
            self._requests[index] = _Request(arguments, prompt_ids, reply_ids)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Float32 logits (S, K), changed in place."""
        if self._requests:
            indices = list(self._requests)
            chosen = sample(logits[indices], [request.row() for request in self._requests.values()])
            logits[indices] = float("-inf")
            logits[indices, [token.token_id for token in chosen]] = 0.0
        return logits
