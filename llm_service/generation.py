"""One request end to end: conversation -> prompt -> positions -> engine -> text."""

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial

from tokenizers import Tokenizer

from internvl.errors import BadOption, GrammarInvalid
from llm_service.conversation import Message
from llm_service.detokenizer import Detokenizer
from llm_service.embeddings import EmbeddingLoader
from llm_service.engine.grammar import Grammars
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
from llm_service.output.formats import Form
from llm_service.output.reply_text import ReplyText
from llm_service.output.tool_calls import CallPiece
from llm_service.output.tool_grammar import tool_form
from llm_service.output.tools import Tools
from llm_service.positions import VisualSpan
from llm_service.prompt import PlacedFrame, Prompt, PromptBuilder
from llm_service.window import Fit, Window
from shared.serving.tracing import PhaseClock

_INLINE_TEXT = 4096
"""Characters: some milliseconds of tokenizing."""


@dataclass(frozen=True)
class GenerationRequest:
    """A request from the servicer, checked field by field."""

    tenant: str
    messages: Sequence[Message]
    sampling: SamplingParameters
    max_tokens: int | None
    """None: the server's default, or what is left of the window if that is less."""
    stop: Sequence[str]
    resume_ids: list[int]
    form: Form | None = None
    """Form of the reply, where its tools do not say."""
    tools: Tools = field(default_factory=Tools)
    stop_token_ids: frozenset[int] = frozenset()
    """Tokens that end the reply, besides the model's own."""
    ignores_end: bool = False
    """Whether the model's own stop token is never chosen."""
    includes_stop: bool = False
    """Whether a stop string is part of the reply."""


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
    """None for what was held back when the reply ended."""
    calls: Sequence[CallPiece] = ()


@dataclass(frozen=True)
class Finished:
    """How the reply ended."""

    reason: FinishReason
    has_calls: bool
    """Whether the reply calls tools."""
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
    """One reply so far, and whether it has ended."""

    def __init__(self, text: ReplyText, resume_ids: Sequence[int], max_tokens: int, clock: ReplyClock) -> None:
        for token_id in resume_ids:
            text.add(token_id)
        self.token_count = len(resume_ids)
        """Without the stop token."""
        self.admitted = Admitted(cached_token_count=0, queue_seconds=0.0)
        self._text, self._max_tokens, self._clock, self._phases = text, max_tokens, clock, PhaseClock()
        self._is_stopped = False

    def end(self) -> FinishReason | None:
        """None while there is more to generate. A reply that broke off between its last token and its end has none."""
        if self._is_stopped or self._text.has_ended:
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
        piece = self._text.add(token.token_id)
        return Delta(piece.text, token, piece.calls)

    def finish(self) -> Delta | None:
        """Text that was held back, if any."""
        self._phases.record()
        CACHED_TOKENS.inc(self.admitted.cached_token_count)
        piece = self._text.finish()
        return Delta(piece.text, None, piece.calls) if piece.text or piece.calls else None

    @property
    def has_calls(self) -> bool:
        return self._text.has_calls


class Generator:
    """Answers conversations with one engine."""

    def __init__(
        self,
        engine: Engine,
        prompts: PromptBuilder,
        tokenizer: Tokenizer,
        embeddings: EmbeddingLoader,
        window: Window,
        grammars: Grammars | None = None,
    ) -> None:
        """`grammars`: those that the engine has; without them no reply can be held to a form."""
        self._engine = engine
        self._prompts = prompts
        self._tokenizer = tokenizer
        self._embeddings = embeddings
        self._window = window
        self._grammars = grammars

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event]:
        """One Started, Deltas, one Finished. Closing it stops the engine's work for it.

        Raises PromptTooLong, BadOption, GrammarInvalid, EmbeddingNotFound, EmbeddingInvalid, QueueFull.
        """
        arrived = ReplyClock()
        visuals = [visual for message in request.messages for visual in message.visuals]
        self._window.refuse_visuals(visuals)
        form = request.form or tool_form(request.tools, self._prompts.is_token)
        if form is not None:
            await self._check_form(form)
        prompt = await self._build(request)
        fitted = self._window.fit(prompt, visuals, request.max_tokens)
        self._check_ids(request, fitted.max_tokens)
        yield Started(len(prompt.token_ids), request.sampling.seed)

        PROMPT_TOKENS.inc(len(prompt.token_ids))
        RESUMED_REPLIES.inc(bool(request.resume_ids))
        reply = _Reply(self._reply_text(request), request.resume_ids, fitted.max_tokens, arrived)
        if reply.end() is None:
            async with aclosing(self._engine.generate(self._engine_request(request, form, prompt, fitted))) as events:
                async for event in events:
                    if isinstance(event, Admitted):
                        reply.admit(event)
                    elif (delta := reply.add(event)) is not None:
                        yield delta
                    if reply.end() is FinishReason.STOP:
                        break
        if (rest := reply.finish()) is not None:
            yield rest
        reason = reply.end()
        assert reason is not None
        yield Finished(
            reason=reason,
            has_calls=reply.has_calls,
            prompt_token_count=len(prompt.token_ids),
            cached_token_count=reply.admitted.cached_token_count,
            visual_token_count=sum(visual.token_count for visual in visuals),
            completion_token_count=reply.token_count,
            increments=tuple(fitted.increments[visual] for visual in visuals),
            queue_seconds=reply.admitted.queue_seconds,
        )

    def status(self) -> EngineStatus:
        """Holdings and work of the engine."""
        return self._engine.status()

    async def _check_form(self, form: Form) -> None:
        """Raises GrammarInvalid with the field, and with the place in a schema, before anything is computed."""
        assert self._grammars is not None
        try:
            await asyncio.wrap_future(self._grammars.compile(form.grammar))
        except GrammarInvalid as error:
            field, place = await asyncio.to_thread(form.fault, self._grammars)
            raise GrammarInvalid(f"{error.message} (at {place})" if place else error.message, field=field) from None

    async def _build(self, request: GenerationRequest) -> Prompt:
        """Off the event loop where the tokenizer takes longer than a hand-over."""
        build = partial(self._prompts.build, request.messages, request.tools.offered)
        text_length = sum(len(message.text) for message in request.messages)
        if text_length > _INLINE_TEXT or request.tools.offered:
            return await asyncio.to_thread(build)
        return build()

    def _reply_text(self, request: GenerationRequest) -> ReplyText:
        text = Detokenizer(
            self._tokenizer,
            request.stop,
            is_trimmed=request.form is None,
            includes_stop=request.includes_stop,
            min_tokens=request.sampling.min_tokens,
        )
        return ReplyText(text, request.tools)

    def _engine_request(
        self, request: GenerationRequest, form: Form | None, prompt: Prompt, fitted: Fit
    ) -> EngineRequest:
        return EngineRequest(
            tenant=request.tenant,
            prompt_ids=prompt.token_ids,
            visuals=tuple(self._visual_input(placed, fitted) for placed in prompt.frames),
            sampling=self._sampling(request, form),
            max_tokens=fitted.max_tokens,
            stop_token_ids=request.stop_token_ids | {self._prompts.stop_token_id},
            resume_ids=request.resume_ids,
            ntk_length=fitted.ntk_length,
        )

    def _sampling(self, request: GenerationRequest, form: Form | None) -> SamplingParameters:
        bias = request.sampling.logit_bias
        if request.ignores_end:
            bias = (*bias, (self._prompts.stop_token_id, -math.inf))
        return replace(request.sampling, logit_bias=bias, grammar=None if form is None else form.grammar)

    def _visual_input(self, placed: PlacedFrame, fitted: Fit) -> VisualInput:
        frame = placed.frame
        return VisualInput(
            span=VisualSpan(placed.start, frame.token_count, fitted.increments[frame.visual]),
            key=frame.visual.key,
            first_row=frame.first_tile * frame.visual.tokens_per_tile,
            load=partial(self._embeddings.load, frame.visual),
        )

    def _check_ids(self, request: GenerationRequest, max_tokens: int) -> None:
        resume_ids, vocabulary = request.resume_ids, self._tokenizer.get_vocab_size()
        if len(resume_ids) > max_tokens:
            raise BadOption(
                f"{len(resume_ids)} resume tokens are more than max_tokens = {max_tokens}", field="resume_token_ids"
            )
        if not all(0 <= token_id < vocabulary and token_id != self._prompts.stop_token_id for token_id in resume_ids):
            raise BadOption("resume tokens must be tokens of a reply", field="resume_token_ids")
        named = {
            "stop_token_ids": request.stop_token_ids,
            "logit_bias": [token_id for token_id, _ in request.sampling.logit_bias],
        }
        for name, token_ids in named.items():
            if not all(0 <= token_id < vocabulary for token_id in token_ids):
                raise BadOption(f"{name} must be token ids, 0 to {vocabulary - 1}", field=f"sampling.{name}")
