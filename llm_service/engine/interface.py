"""The engine as the rest of the service knows it. Small enough that another engine can stand behind it."""

import operator
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import astuple, dataclass, field
from enum import Enum

import torch

from llm_service.positions import VisualSpan

LoadRows = Callable[[int, int], Awaitable[torch.Tensor]]
"""Rows [first, last) of an image's visual tokens, (last - first, D) on the CPU. Its errors reach the one who asked."""


@dataclass(frozen=True)
class VisualInput:
    """The visual tokens of one image, and how to get their embeddings if they are needed."""

    span: VisualSpan
    key: str
    """Names the rows: with the increment it identifies them in the prefix cache."""
    first_row: int
    """Row of `key` that the span starts with: frames of a video share a key."""
    load: LoadRows


@dataclass(frozen=True)
class SamplingParameters:
    """How the next token is chosen; every field has its final value."""

    seed: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    top_logprob_count: int | None = None
    """None: no log-probabilities."""
    min_tokens: int = 0
    """Tokens before which no stop token is chosen."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Biases added to the logits of tokens: (token id, bias)."""
    grammar: str | None = None
    """Grammar of the reply, in the notation of `llm_service.engine.grammar`; None: nothing."""

    @property
    def has_penalty(self) -> bool:
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1.0, 0.0, 0.0)


@dataclass(frozen=True)
class EngineRequest:
    """A prompt ready to run."""

    tenant: str
    prompt_ids: list[int]
    """Visual slots hold the image token's id; their content is in `visuals`."""
    visuals: tuple[VisualInput, ...]
    sampling: SamplingParameters
    max_tokens: int
    """The reply ends with FinishReason.LENGTH after so many tokens."""
    stop_token_ids: frozenset[int]
    """The reply ends with FinishReason.STOP at any of these."""
    resume_ids: list[int] = field(default_factory=list)
    """Tokens of the reply that exist already, fewer than max_tokens; max_tokens and token indices count them."""
    ntk_length: int = 0
    """Positions that dynamic NTK stretches the rotation for; 0, or any length inside the trained window, is the trained
    rotation. A function of the request, so that no other request changes its result."""


class FinishReason(Enum):
    """Why an engine stopped."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True)
class Logprob:
    """Log-probability of a token, before grammar, penalties, temperature and filters."""

    token_id: int
    logprob: float


@dataclass(frozen=True)
class Admitted:
    """The request has left the queue. Comes once, before its tokens."""

    cached_token_count: int
    """Tokens of the prompt whose keys and values were there already."""
    queue_seconds: float
    """How long the request waited for its first step."""


@dataclass(frozen=True)
class GeneratedToken:
    """One token of the reply. A stop token is reported, as the last one, with FinishReason.STOP."""

    token_id: int
    finish: FinishReason | None
    logprob: Logprob | None = None
    alternatives: tuple[Logprob, ...] = ()


@dataclass(frozen=True)
class Counts:
    """The work of an engine since it started, or of one step."""

    preemption_count: int = 0
    """Requests that lost their pages and began again."""
    step_count: int = 0
    """Passes through the model."""
    step_token_count: int = 0
    """Tokens of all of them."""
    started_count: int = 0
    """Requests that left the queue."""
    queue_wait_seconds: float = 0.0
    """Time that these waited, in all."""

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*map(operator.add, astuple(self), astuple(other)))


@dataclass(frozen=True)
class EngineStatus:
    """Holdings of an engine right now, and its work until now."""

    waiting_count: int
    running_count: int
    page_count: int
    used_page_count: int
    """Pages that requests hold; cached pages that none holds are free."""
    waiting_token_count: int = 0
    """Tokens that requests which have not started still have to compute."""
    step_age_seconds: float = 0.0
    """Age of the step that runs; 0 between steps."""
    since_start: Counts = Counts()


class Engine(ABC):
    """Runs many requests at once."""

    @abstractmethod
    async def failed(self) -> str:
        """Returns the cause when the engine has died or hangs. Requests have failed; the process should be replaced."""

    @abstractmethod
    def generate(self, request: EngineRequest) -> AsyncGenerator[Admitted | GeneratedToken]:
        """One Admitted, then tokens as they are made. Closing it stops the request and frees what that held in a step.

        Raises QueueFull, PromptTooLong, GrammarInvalid, whatever `load` raises, or Unavailable if the engine has died.
        """

    @abstractmethod
    def status(self) -> EngineStatus:
        """Holdings now, all zero but page_count when idle, and the counts since the start."""

    @abstractmethod
    async def close(self) -> None:
        """Fails what is running with Draining and gives everything back."""
