"""One request end to end: conversation -> prompt -> positions -> engine -> text."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from tokenizers import Tokenizer

from internvl.errors import BadOption
from llm_service.conversation import Message, Visual
from llm_service.detokenizer import Detokenizer
from llm_service.embeddings import EmbeddingLoader
from llm_service.engine.interface import (
    Admitted,
    Engine,
    EngineRequest,
    EngineStatus,
    FinishReason,
    GeneratedToken,
    SamplingParameters,
    VisualInput,
)
from llm_service.metrics import CACHED_TOKENS, COMPLETION_TOKENS, PROMPT_TOKENS, RESUMED_REPLIES, ReplyClock
from llm_service.positions import VisualSpan
from llm_service.prompt import PlacedFrame, Prompt, PromptBuilder
from llm_service.window import Fit, Window
from shared.serving.tracing import PhaseClock

_INLINE_TEXT = 4096
"""Characters: some milliseconds of tokenizing."""


@dataclass(frozen=True)
class GenerationRequest:
    """What the servicer hands over, checked field by field."""

    tenant: str
    messages: Sequence[Message]
    sampling: SamplingParameters
    max_tokens: int | None
    """None: the server's default, or what is left of the window if that is less."""
    stop: Sequence[str]
    resume_ids: list[int]


@dataclass(frozen=True)
class Started:
    """The prompt is accepted."""

    prompt_token_count: int
    seed: int


@dataclass(frozen=True)
class Delta:
    """More of the reply."""

    text: str
    token: GeneratedToken | None
    """None for text that was held back when the reply ended."""


@dataclass(frozen=True)
class Finished:
    """How the reply ended."""

    reason: FinishReason
    prompt_token_count: int
    cached_token_count: int
    visual_token_count: int
    completion_token_count: int
    """Without the stop token."""
    increments: tuple[int, ...]
    """Ticks per visual token of each image and video, in order."""
    queue_seconds: float
    """How long the prompt waited for its first step."""


Event = Started | Delta | Finished


class _Reply:
    """What has come of one reply, and whether it has ended."""

    def __init__(self, text: Detokenizer, resume_ids: Sequence[int], max_tokens: int, clock: ReplyClock) -> None:
        for token_id in resume_ids:
            text.add(token_id)
        self.token_count = len(resume_ids)
        """Without the stop token."""
        self.admitted = Admitted(cached_token_count=0, queue_seconds=0.0)
        self._text, self._max_tokens, self._clock, self._phases = text, max_tokens, clock, PhaseClock()
        self._is_stopped = False

    def end(self) -> FinishReason | None:
        """None while there is more to generate. A reply that broke off between its last token and its end has none."""
        if self._is_stopped or self._text.is_stopped:
            return FinishReason.STOP
        return FinishReason.LENGTH if self.token_count >= self._max_tokens else None

    def admit(self, admitted: Admitted) -> None:
        self.admitted = admitted
        self._phases.started(admitted.queue_seconds)

    def add(self, token: GeneratedToken) -> Delta | None:
        """None for the stop token, which has no text."""
        self._clock.token()
        self._phases.token()
        COMPLETION_TOKENS.inc()
        self._is_stopped = token.finish is FinishReason.STOP
        if self._is_stopped:
            return None
        self.token_count += 1
        return Delta(self._text.add(token.token_id), token)

    def finish(self) -> str:
        """Text that was held back."""
        self._phases.record()
        CACHED_TOKENS.inc(self.admitted.cached_token_count)
        return self._text.finish()


class Generator:
    """Answers conversations with one engine."""

    def __init__(
        self,
        engine: Engine,
        prompts: PromptBuilder,
        tokenizer: Tokenizer,
        embeddings: EmbeddingLoader,
        window: Window,
    ) -> None:
        self._engine = engine
        self._prompts = prompts
        self._tokenizer = tokenizer
        self._embeddings = embeddings
        self._window = window

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event]:
        """One Started, Deltas, one Finished. Closing it stops the engine's work for it.

        Raises PromptTooLong, BadOption, EmbeddingNotFound, EmbeddingInvalid, QueueFull.
        """
        arrived = ReplyClock()
        visuals = [part for message in request.messages for part in message.parts if isinstance(part, Visual)]
        self._window.refuse_visuals(visuals)
        prompt = await self._build(request.messages)
        fitted = self._window.fit(prompt, visuals, request.max_tokens)
        self._check_resume_ids(request.resume_ids, fitted.max_tokens)
        yield Started(len(prompt.token_ids), request.sampling.seed)

        PROMPT_TOKENS.inc(len(prompt.token_ids))
        RESUMED_REPLIES.inc(bool(request.resume_ids))
        reply = _Reply(Detokenizer(self._tokenizer, request.stop), request.resume_ids, fitted.max_tokens, arrived)
        if reply.end() is None:
            async with aclosing(self._engine.generate(self._engine_request(request, prompt, fitted))) as events:
                async for event in events:
                    if isinstance(event, Admitted):
                        reply.admit(event)
                    elif (delta := reply.add(event)) is not None:
                        yield delta
                    if reply.end() is FinishReason.STOP:
                        break
        if rest := reply.finish():
            yield Delta(rest, None)
        reason = reply.end()
        assert reason is not None
        yield Finished(
            reason=reason,
            prompt_token_count=len(prompt.token_ids),
            cached_token_count=reply.admitted.cached_token_count,
            visual_token_count=sum(visual.token_count for visual in visuals),
            completion_token_count=reply.token_count,
            increments=tuple(fitted.increments[visual] for visual in visuals),
            queue_seconds=reply.admitted.queue_seconds,
        )

    def status(self) -> EngineStatus:
        """What the engine holds right now."""
        return self._engine.status()

    async def _build(self, messages: Sequence[Message]) -> Prompt:
        """Off the event loop where the tokenizer takes longer than a hand-over."""
        text_length = sum(len(part) for message in messages for part in message.parts if isinstance(part, str))
        if text_length > _INLINE_TEXT:
            return await asyncio.to_thread(self._prompts.build, messages)
        return self._prompts.build(messages)

    def _engine_request(self, request: GenerationRequest, prompt: Prompt, fitted: Fit) -> EngineRequest:
        return EngineRequest(
            tenant=request.tenant,
            prompt_ids=prompt.token_ids,
            visuals=tuple(self._visual_input(placed, fitted) for placed in prompt.frames),
            sampling=request.sampling,
            max_tokens=fitted.max_tokens,
            stop_token_ids=frozenset({self._prompts.stop_token_id}),
            resume_ids=request.resume_ids,
            ntk_length=fitted.ntk_length,
        )

    def _visual_input(self, placed: PlacedFrame, fitted: Fit) -> VisualInput:
        frame = placed.frame
        return VisualInput(
            span=VisualSpan(placed.start, frame.token_count, fitted.increments[frame.visual]),
            key=frame.visual.key,
            first_row=frame.first_tile * frame.visual.tokens_per_tile,
            load=partial(self._embeddings.load, frame.visual),
        )

    def _check_resume_ids(self, resume_ids: Sequence[int], max_tokens: int) -> None:
        if len(resume_ids) > max_tokens:
            raise BadOption(
                f"{len(resume_ids)} resume tokens are more than max_tokens = {max_tokens}", field="resume_token_ids"
            )
        vocabulary = self._tokenizer.get_vocab_size()
        if not all(0 <= token_id < vocabulary and token_id != self._prompts.stop_token_id for token_id in resume_ids):
            raise BadOption("resume tokens must be tokens of a reply", field="resume_token_ids")
