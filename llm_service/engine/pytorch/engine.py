"""The loop: schedule, batch, run, sample, emit. In the model's thread; requests come and go on the event loop.

The event loop adds, removes and asks under a lock that is never held while the model runs. A request whose embeddings
are on their way already holds the cached pages it begins with, so that only what these do not cover is fetched.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import wait
from contextlib import suppress

from internvl.errors import Draining, Unavailable
from llm_service.engine.counts import EngineCounts
from llm_service.engine.interface import (
    Engine,
    EngineRequest,
    EngineStatus,
    FinishReason,
    GeneratedToken,
)
from llm_service.engine.pytorch.model_thread import ModelThread
from llm_service.engine.pytorch.pages import PageAllocator
from llm_service.engine.pytorch.runner import Runner
from llm_service.engine.pytorch.sampler import SampledToken, SamplingRow, sample
from llm_service.engine.pytorch.scheduler import Chunk, Scheduler, SchedulerLimits
from llm_service.engine.pytorch.sequence import Sequence
from llm_service.engine.rows import load_rows
from llm_service.model.language import LanguageModel
from llm_service.model.ranks.followers import Followers

log = logging.getLogger(__name__)
_STOP_SECONDS = 30.0
"""For the step under way when the engine closes."""
_RETRY_SECONDS = 0.01
"""Pause of the loop when there is work but no page for it: the holders of pages are loading."""


class _Preempted:
    """Delivered in place of a token: the sequence lost its pages and is to be added again."""


_Delivery = GeneratedToken | _Preempted | Exception


class TorchEngine(Engine):
    """The PyTorch engine."""

    def __init__(
        self,
        model: LanguageModel,
        *,
        page_count: int,
        page_size: int,
        limits: SchedulerLimits,
        followers: Followers | None = None,
        thread: ModelThread | None = None,
    ) -> None:
        """`followers`: the model's other ranks, if there are any. The engine dies with them.

        `thread`: the one that loaded the model; the loop keeps it until the engine closes.
        """
        self._page_size = page_size
        self._followers = followers or Followers()
        self._runner = Runner(model, self._followers, page_count=page_count, page_size=page_size)
        self._scheduler = Scheduler(PageAllocator(page_count), page_size, limits)
        self._changed = threading.Condition()
        """Guards everything below and the scheduler; notified when there may be work."""
        self._mailboxes: dict[Sequence, asyncio.Queue[_Delivery]] = {}
        self._in_step: set[Sequence] = set()
        self._removed_in_step: set[Sequence] = set()
        self._counts = EngineCounts()
        self._closing: Unavailable | None = None
        self._failed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        thread = thread or ModelThread()
        self._ended = thread.submit(self._work)
        thread.close()
        self._followers.watch(self._die)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[GeneratedToken]:
        sequence = Sequence(request, self._page_size)
        mailbox: asyncio.Queue[_Delivery] = asyncio.Queue()
        try:
            await self._admit(sequence, mailbox)
            while True:
                delivery = await mailbox.get()
                if isinstance(delivery, Exception):
                    raise delivery
                if isinstance(delivery, _Preempted):
                    await self._admit(sequence, mailbox)
                    continue
                yield delivery
                if delivery.finish is not None:
                    return
        finally:
            self._forget(sequence)

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
                **self._counts.since_start(),
            )

    def check(self) -> None:
        """Raises AssertionError unless pages and sequences agree."""
        with self._changed:
            self._scheduler.check()

    async def close(self) -> None:
        self._stop(Draining("the engine is shutting down"))
        await asyncio.to_thread(wait, [self._ended], _STOP_SECONDS)  # a sum over ranks may wait for one that is gone

    async def _admit(self, sequence: Sequence, mailbox: asyncio.Queue[_Delivery]) -> None:
        """Queues the sequence, loads what the prefix cache does not cover, and lets it start."""
        with self._changed:
            if self._closing is not None:
                raise type(self._closing)(self._closing.message)
            self._scheduler.add(sequence)
            self._counts.arrived(sequence)
            self._mailboxes[sequence] = mailbox
        await _load_rows(sequence)
        with self._changed:
            self._scheduler.ready(sequence)
            self._changed.notify()

    def _forget(self, sequence: Sequence) -> None:
        """Takes the sequence out at once, or after the step that is running it."""
        with self._changed:
            if self._mailboxes.pop(sequence, None) is None:
                return
            self._counts.left(sequence)
            if sequence in self._in_step:
                self._removed_in_step.add(sequence)
            else:
                self._scheduler.remove(sequence)
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
        sampled, logits = self._runner.run(chunks)
        self._emit(chunks, sampled, sample(logits, [_sampling_row(chunk.sequence) for chunk in sampled]))
        return True

    def _schedule(self) -> list[Chunk] | None:
        """Waits for a plan with something to run; None when closed."""
        with self._changed:
            while self._closing is None:
                plan = self._scheduler.plan()
                for sequence in plan.preempted:
                    self._deliver([(sequence, _Preempted())])
                self._counts.planned(plan)
                if plan.chunks:
                    self._in_step = {chunk.sequence for chunk in plan.chunks}
                    return plan.chunks
                if self._scheduler.is_idle:
                    self._scheduler.check_idle()
                self._changed.wait(_RETRY_SECONDS if self._scheduler.has_work else None)
            return None

    def _emit(self, chunks: list[Chunk], sampled: list[Chunk], tokens: list[SampledToken]) -> None:
        with self._changed:
            self._in_step = set()
            for chunk in chunks:
                self._scheduler.complete(chunk)
            deliveries: list[tuple[Sequence, _Delivery]] = []
            for chunk, token in zip(sampled, tokens, strict=True):
                generated = _advance(chunk.sequence, token)
                deliveries.append((chunk.sequence, generated))
                if generated.finish is not None:
                    self._removed_in_step.add(chunk.sequence)
            self._deliver(deliveries)
            for sequence in self._removed_in_step:
                self._mailboxes.pop(sequence, None)
                self._scheduler.remove(sequence)
            self._removed_in_step.clear()

    def _deliver(self, deliveries: list[tuple[Sequence, _Delivery]]) -> None:
        """Hands everything over in one call into the event loop."""
        addressed = [
            (self._mailboxes[sequence], delivery) for sequence, delivery in deliveries if sequence in self._mailboxes
        ]

        def put_all() -> None:
            for mailbox, delivery in addressed:
                mailbox.put_nowait(delivery)

        if addressed:
            self._loop.call_soon_threadsafe(put_all)

    def _stop(self, reason: Unavailable) -> None:
        with self._changed:
            self._closing = self._closing or reason
            self._deliver([(sequence, type(reason)(reason.message)) for sequence in self._mailboxes])
            self._changed.notify()


async def _load_rows(sequence: Sequence) -> None:
    """Loads the rows of every visual token that is neither computed nor loaded, all images at once."""
    visuals = sequence.request.visuals
    wanted = {
        index: max(sequence.computed_count - visuals[index].span.start, 0)
        for index in range(len(visuals))
        if _is_missing(sequence, index)
    }
    loaded = await load_rows([(visuals[index], first) for index, first in wanted.items()])
    for (index, first), rows in zip(wanted.items(), loaded, strict=True):
        assert rows.shape[0] == visuals[index].span.token_count - first
        sequence.rows[index] = (first, rows)


def _is_missing(sequence: Sequence, index: int) -> bool:
    span = sequence.request.visuals[index].span
    first_needed = max(sequence.computed_count - span.start, 0)
    first_loaded = sequence.rows[index][0] if index in sequence.rows else span.token_count
    return first_needed < first_loaded


def _advance(sequence: Sequence, token: SampledToken) -> GeneratedToken:
    """Appends the token to the sequence and says whether it is the last. Embeddings have done their work by then."""
    sequence.token_ids.append(token.token_id)
    sequence.rows.clear()
    finish = None
    if token.token_id in sequence.request.stop_token_ids:
        finish = FinishReason.STOP
    elif sequence.reply_count >= sequence.request.max_tokens:
        finish = FinishReason.LENGTH
    return GeneratedToken(
        token.token_id,
        finish,
        sequence.cached_token_count,
        token.logprob,
        token.alternatives,
        sequence.queue_seconds,
    )


def _sampling_row(sequence: Sequence) -> SamplingRow:
    request = sequence.request
    return SamplingRow(request.sampling, sequence.prompt_text_ids, sequence.token_ids[sequence.prompt_count :])
