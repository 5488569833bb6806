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

from internvl.errors import Draining, Unavailable
from llm_service.engine.interface import (
    Admitted,
    Counts,
    Engine,
    EngineRequest,
    EngineStatus,
    FinishReason,
    GeneratedToken,
)
from llm_service.engine.pytorch.model_thread import ModelThread
from llm_service.engine.pytorch.pages import PageAllocator
from llm_service.engine.pytorch.request import Request
from llm_service.engine.pytorch.sampler import SampledToken, SamplingRow, sample
from llm_service.engine.pytorch.scheduler import Chunk, Plan, Scheduler, SchedulerLimits
from llm_service.engine.pytorch.step_input import step_input
from llm_service.engine.rows import load_rows
from llm_service.model.language import LanguageModel

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
        thread: ModelThread | None = None,
    ) -> None:
        """The engine dies with the model's other ranks, if there are any.

        `thread`: the one that loaded the model; the loop keeps it until the engine closes.
        """
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
        self._failed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        thread = thread or ModelThread()
        self._ended = thread.submit(self._work)
        thread.close()
        model.ranks.watch(self._die)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[Admitted | GeneratedToken]:
        own = Request(request, self._scheduler.pages.page_size)
        mailbox: asyncio.Queue[_Delivery] = asyncio.Queue()
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

    async def failed(self) -> None:
        await self._failed.wait()

    def status(self) -> EngineStatus:
        with self._changed:
            scheduler = self._scheduler
            return EngineStatus(
                waiting_count=scheduler.waiting_count,
                running_count=scheduler.running_count,
                page_count=scheduler.pages.page_count,
                used_page_count=scheduler.pages.held_count,
                waiting_token_count=scheduler.waiting_token_count,
                since_start=self._counts,
            )

    def check(self) -> None:
        """Raises AssertionError unless pages and requests agree."""
        with self._changed:
            self._scheduler.check()

    async def close(self) -> None:
        self._stop(Draining("the engine is shutting down"))
        await asyncio.to_thread(wait, [self._ended], _STOP_SECONDS)  # a sum over ranks may wait for one that is gone

    async def _admit(self, request: Request, mailbox: asyncio.Queue[_Delivery]) -> None:
        """Queues the request, loads what the prefix cache does not cover, and lets it start."""
        with self._changed:
            if self._closing is not None:
                raise type(self._closing)(self._closing.message)
            self._scheduler.add(request)
            self._mailboxes[request] = mailbox
        await _load_rows(request)
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
        except Exception as error:
            log.critical("the engine died", exc_info=error)
            self._die("its loop failed")

    def _die(self, reason: str) -> None:
        """Ends every request, and says so to whoever awaits `failed`. From any thread."""
        log.critical("the engine cannot go on", extra={"cause": reason})
        self._stop(Unavailable("the engine has died"))
        with suppress(RuntimeError):  # the event loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(self._failed.set)

    def _step(self) -> bool:
        """One round; False when the engine is closed."""
        chunks = self._schedule()
        if chunks is None:
            return False
        self._emit(chunks, self._run(chunks))
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
                generated = _advance(request, token)
                deliveries.append((request, generated))
                if generated.finish is not None:
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


async def _load_rows(request: Request) -> None:
    """Loads the rows of every visual token that is neither computed nor loaded, all images at once."""
    visuals = request.spec.visuals
    wanted = {
        index: max(request.computed_count - visuals[index].span.start, 0)
        for index in range(len(visuals))
        if _is_missing(request, index)
    }
    loaded = await load_rows([(visuals[index], first) for index, first in wanted.items()])
    for (index, first), rows in zip(wanted.items(), loaded, strict=True):
        assert rows.shape[0] == visuals[index].span.token_count - first
        request.rows[index] = (first, rows)


def _is_missing(request: Request, index: int) -> bool:
    span = request.spec.visuals[index].span
    first_needed = max(request.computed_count - span.start, 0)
    first_loaded = request.rows[index][0] if index in request.rows else span.token_count
    return first_needed < first_loaded


def _advance(request: Request, token: SampledToken) -> GeneratedToken:
    """Appends the token to the request and says whether it is the last. Embeddings have done their work by then."""
    request.add(token.token_id)
    request.rows.clear()
    finish = None
    if token.token_id in request.spec.stop_token_ids:
        finish = FinishReason.STOP
    elif request.reply_count >= request.spec.max_tokens:
        finish = FinishReason.LENGTH
    return GeneratedToken(token.token_id, finish, token.logprob, token.alternatives)


def _sampling_row(request: Request) -> SamplingRow:
    return SamplingRow(request.spec.sampling, request.reply_count, request.history)
