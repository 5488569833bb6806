"""Sampling inside vLLM as in `llm_service.engine.pytorch.sampler`: a function of (seed, token index) and logits.

vLLM's own seeded draws depend on how many were drawn before, so that a reply cut off could not be continued. Here the
token is chosen first, and the logits then leave vLLM no other choice. Log-probabilities are vLLM's, taken before.

For the same reason grammars are ours: vLLM's begin with the first token that vLLM draws, not inside a reply.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from llm_service.engine.grammar import Constraint, Grammar, Grammars
from llm_service.engine.interface import SamplingParameters
from llm_service.engine.pytorch.penalties import History
from llm_service.engine.pytorch.sampler import SamplingRow, sample
from llm_service.prompt import PromptBuilder
from shared.checkpoint.tokenizer import load_tokenizer

ARGUMENT = "internvl"
"""Under this name a request carries {parameters, stop_ids, prompt_count, visual_ranges}; one without is greedy, left to
vLLM."""


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
        self._resumed_ids = token_ids[count:]
        self._stop_ids = arguments["stop_ids"]
        self._constraint: Constraint | None = None
        """Made with the first row that is drawn: the grammar is compiled while the prompt is computed."""
        self.grammar: Future[Grammar] | None = None

    @property
    def grammar_text(self) -> str | None:
        return self._parameters.grammar

    def row(self) -> SamplingRow:
        if self._history is not None:
            for token_id in self._reply_ids[self._seen_count :]:
                self._history.add(token_id)
            self._seen_count = len(self._reply_ids)
        count = self._resumed_count + len(self._reply_ids)
        barred = self._stop_ids if count < self._parameters.min_tokens else ()
        return SamplingRow(self._parameters, count, self._history, barred, self._allowed(count))

    def drawn(self, token_id: int) -> None:
        """A token was chosen; vLLM may discard it, as it does while a prompt is computed in parts."""
        if self._constraint is not None:
            self._constraint.advance(token_id)

    def _allowed(self, count: int) -> torch.Tensor | None:
        if self.grammar is None:
            return None
        if self._constraint is None:
            self._constraint = self.grammar.result().begin([*self._resumed_ids, *self._reply_ids])
        elif self._constraint.token_count > count:
            self._constraint.retreat()
        assert self._constraint.token_count == count
        if (allowed := self._constraint.mask()) is None:  # the reply ends, and the engine refuses what it is
            allowed = torch.zeros(max(self._stop_ids) + 1, dtype=torch.bool)
            allowed[list(self._stop_ids)] = True
        return allowed


class ReplayableSampling(LogitsProcessor):
    """vLLM makes one for each worker."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self._requests: dict[int, _Request] = {}
        self._folder = vllm_config.model_config.model

    @cached_property
    def _grammars(self) -> Grammars:
        tokenizer = load_tokenizer(Path(self._folder))
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
            request = self._requests[index] = _Request(arguments, prompt_ids, reply_ids)
            if request.grammar_text is not None:
                request.grammar = self._grammars.compile(request.grammar_text)

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
