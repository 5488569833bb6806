"""The loop: schedule, batch, run, sample, emit. In the model's thread; requests come and go on the event loop.

The event loop adds, removes and asks under a lock that is never held while the model runs. A request whose embeddings
are on their way already holds the cached pages it begins with, so that only what these do not cover is fetched.
"""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator
from concurrent.futures import wait
from contextlib import suppress

from internvl.errors import Draining, InternvlError, Unavailable
from llm_service.engine.grammar import Grammars
from llm_service.engine.interface import (
    Admitted,
    Counts,
    Engine,
    EngineRequest,
    EngineStatus,
    FinishReason,
    GeneratedToken,
)
from llm_service.engine.pytorch.missing_rows import load_missing_rows
from llm_service.engine.pytorch.model_thread import ModelThread
from llm_service.engine.pytorch.pages import PageAllocator
from llm_service.engine.pytorch.request import Request
from llm_service.engine.pytorch.sampler import SampledToken, SamplingRow, sample
from llm_service.engine.pytorch.scheduler import Chunk, Plan, Scheduler, SchedulerLimits
from llm_service.engine.pytorch.step_input import step_input
from llm_service.model.language import LanguageModel
from shared.serving.watchdog import Watchdog

log = logging.getLogger(__name__)
_STOP_SECONDS = 30.0
"""For the step under way when the engine closes."""
_RETRY_SECONDS = 0.01
"""Pause of the loop when there is work but no page for it: the holders of pages are loading."""


class _Preempted:
    """Delivered in place of a token: the request lost its pages and is to be added again."""


_Delivery = Admitted | GeneratedToken | _Preempted | Exception


class TorchEngine(Engine):
    """The PyTorch engine."""

    def __init__(
        self,
        model: LanguageModel,
        *,
        page_count: int,
        page_size: int,
        limits: SchedulerLimits,
        step_seconds: float = 120.0,
        thread: ModelThread | None = None,
        grammars: Grammars | None = None,
    ) -> None:
        """The engine dies with the model's other ranks, if there are any, and of a step longer than `step_seconds`.

        `grammars`: of the model's tokenizer; without them no request may have a grammar.

        `thread`: the one that loaded the model; the loop keeps it until the engine closes.
        """
        self._grammars = grammars
        self._model = model
        self._cache = model.new_cache(page_count, page_size)
        self._scheduler = Scheduler(PageAllocator(page_count, page_size), limits)
        self._changed = threading.Condition()
        """Guards everything below and the scheduler; notified when there may be work."""
        self._mailboxes: dict[Request, asyncio.Queue[_Delivery]] = {}
        self._in_step: set[Request] = set()
        self._removed_in_step: set[Request] = set()
        self._counts = Counts()
        self._closing: Unavailable | None = None
        self._loop = asyncio.get_running_loop()
        self._failed: asyncio.Future[str] = self._loop.create_future()
        self._watchdog = Watchdog(step_seconds)
        self._watching = asyncio.create_task(self._watch())
        thread = thread or ModelThread()
        self._ended = thread.submit(self._work)
        thread.close()
        model.ranks.watch(self._die)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[Admitted | GeneratedToken]:
        own = Request(request, self._scheduler.pages.page_size)
        mailbox: asyncio.Queue[_Delivery] = asyncio.Queue()
        if (grammar := request.sampling.grammar) is not None:
            assert self._grammars is not None
            own.constraint = (await asyncio.wrap_future(self._grammars.compile(grammar))).begin(request.resume_ids)
        try:
            await self._admit(own, mailbox)
            while True:
                delivery = await mailbox.get()
                if isinstance(delivery, Exception):
                    raise delivery
                if isinstance(delivery, _Preempted):
                    await self._admit(own, mailbox)
                    continue
                yield delivery
                if isinstance(delivery, GeneratedToken) and delivery.finish is not None:
                    return
        finally:
            self._forget(own)

    async def failed(self) -> str:
        return await asyncio.shield(self._failed)

    def status(self) -> EngineStatus:
        with self._changed:
            scheduler = self._scheduler
            return EngineStatus(
                waiting_count=scheduler.waiting_count,
                running_count=scheduler.running_count,
                page_count=scheduler.pages.page_count,
                used_page_count=scheduler.pages.held_count,
                waiting_token_count=scheduler.waiting_token_count,
                step_age_seconds=self._watchdog.age_seconds,
                since_start=self._counts,
            )

    def check(self) -> None:
        """Raises AssertionError unless pages and requests agree."""
        with self._changed:
            self._scheduler.check()

    async def close(self) -> None:
        self._stop(Draining("the engine is shutting down"))
        if self._watching.done():  # a step hangs
            return
        self._watching.cancel()
        await asyncio.to_thread(wait, [self._ended], _STOP_SECONDS)  # a sum over ranks may wait for one that is gone

    async def _admit(self, request: Request, mailbox: asyncio.Queue[_Delivery]) -> None:
        """Queues the request, loads what the prefix cache does not cover, and lets it start."""
        with self._changed:
            if self._closing is not None:
                raise type(self._closing)(self._closing.message)
            self._scheduler.add(request)
            self._mailboxes[request] = mailbox
        await load_missing_rows(request)
        with self._changed:
            self._scheduler.ready(request)
            self._changed.notify()

    def _forget(self, request: Request) -> None:
        """Takes the request out at once, or after the step that is running it."""
        with self._changed:
            if self._mailboxes.pop(request, None) is None:
                return
            if request in self._in_step:
                self._removed_in_step.add(request)
            else:
                self._scheduler.remove(request)
            self._changed.notify()

    def _work(self) -> None:
        try:
            while self._step():
                pass
        except Exception as error:  # noqa: BLE001 - handed on, and logged there
            self._die("its loop failed", error)

    async def _watch(self) -> None:
        self._die(await self._watchdog.overdue())

    def _die(self, cause: str, error: Exception | None = None) -> None:
        """Ends every request, and makes `failed` return. From any thread."""
        log.critical("the engine has died", extra={"cause": cause}, exc_info=error)
        self._stop(Unavailable("the engine has died"))

        def tell() -> None:
            if not self._failed.done():
                self._failed.set_result(cause)

        with suppress(RuntimeError):  # the event loop is closed: the service has ended
            self._loop.call_soon_threadsafe(tell)

    def _step(self) -> bool:
        """One round; False when the engine is closed."""
        chunks = self._schedule()
        if chunks is None:
            return False
        with self._watchdog.work():
            tokens = self._run(chunks)
        self._emit(chunks, tokens)
        return True

    def _run(self, chunks: list[Chunk]) -> dict[Request, SampledToken]:
        """One pass through the model. Requests that want a token get one."""
        logits = self._model.forward(step_input(chunks, self._cache.page_size), self._cache)
        sampled = [chunk.request for chunk in chunks if chunk.wants_token]
        return dict(zip(sampled, sample(logits, list(map(_sampling_row, sampled))), strict=True))

    def _schedule(self) -> list[Chunk] | None:
        """Waits for a plan with something to run; None when closed."""
        with self._changed:
            while self._closing is None:
                plan = self._scheduler.plan()
                self._deliver([(request, _Preempted()) for request in plan.preempted])
                self._start(plan)
                if plan.chunks:
                    self._in_step = {chunk.request for chunk in plan.chunks}
                    return plan.chunks
                if self._scheduler.is_idle:
                    self._scheduler.check_idle()
                self._changed.wait(_RETRY_SECONDS if self._scheduler.has_work else None)
            return None

    def _start(self, plan: Plan) -> None:
        """Counts the step that is about to run, if there is one, and says so to requests whose first it is."""
        started = [chunk.request for chunk in plan.chunks if chunk.request.queue_seconds is None]
        deliveries: list[tuple[Request, _Delivery]] = []
        for request in started:
            request.queue_seconds = time.monotonic() - request.arrived
            deliveries.append((request, Admitted(request.cached_token_count, request.queue_seconds)))
        self._deliver(deliveries)
        self._counts += Counts(
            preemption_count=len(plan.preempted),
            step_count=int(bool(plan.chunks)),
            step_token_count=sum(chunk.token_count for chunk in plan.chunks),
            started_count=len(started),
            queue_wait_seconds=sum(request.queue_seconds or 0.0 for request in started),
        )

    def _emit(self, chunks: list[Chunk], tokens: dict[Request, SampledToken]) -> None:
        with self._changed:
            self._in_step = set()
            for chunk in chunks:
                self._scheduler.complete(chunk)
            deliveries: list[tuple[Request, _Delivery]] = []
            for request, token in tokens.items():
                delivery = _advance(request, token)
                deliveries.append((request, delivery))
                if isinstance(delivery, Exception) or delivery.finish is not None:
                    self._removed_in_step.add(request)
            self._deliver(deliveries)
            for request in self._removed_in_step:
                self._mailboxes.pop(request, None)
                self._scheduler.remove(request)
            self._removed_in_step.clear()

    def _deliver(self, deliveries: list[tuple[Request, _Delivery]]) -> None:
        """Hands everything over in one call into the event loop."""
        addressed = [
            (self._mailboxes[request], delivery) for request, delivery in deliveries if request in self._mailboxes
        ]

        def put_all() -> None:
            for mailbox, delivery in addressed:
                mailbox.put_nowait(delivery)

        if addressed:
            self._loop.call_soon_threadsafe(put_all)

    def _stop(self, reason: Unavailable) -> None:
        with self._changed:
            self._closing = self._closing or reason
            self._deliver([(request, type(reason)(reason.message)) for request in self._mailboxes])
            self._changed.notify()


def _advance(request: Request, token: SampledToken) -> GeneratedToken | InternvlError:
    """Appends the token to the request and says whether it is the last. Embeddings have done their work by then.

    A request whose grammar has failed chose without it, and ends with the failure in place of the token.
    """
    constraint = request.constraint
    if constraint is not None and constraint.failure is not None:
        return constraint.failure
    request.add(token.token_id)
    request.rows.clear()
    finish = None
    if token.token_id in request.spec.stop_token_ids:
        finish = FinishReason.STOP
    elif request.reply_count >= request.spec.max_tokens:
        finish = FinishReason.LENGTH
    elif constraint is not None:
        constraint.advance(token.token_id)
    return GeneratedToken(token.token_id, finish, token.logprob, token.alternatives)


def _sampling_row(request: Request) -> SamplingRow:
    spec, constraint = request.spec, request.constraint
    barred = spec.stop_token_ids if request.reply_count < spec.sampling.min_tokens else ()
    allowed = None if constraint is None else constraint.mask()
    return SamplingRow(spec.sampling, request.reply_count, request.history, barred, allowed)
