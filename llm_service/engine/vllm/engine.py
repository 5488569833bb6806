"""The Engine over vLLM's AsyncLLM. vLLM schedules, caches and computes, in processes of its own.

Here requests are admitted and checked, their embeddings loaded, and tokens handed on. What vLLM would die of never
reaches it.
"""

import asyncio
import itertools
import logging
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

import torch
from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.metrics.loggers import StatLoggerBase
from vllm.v1.metrics.stats import IterationStats, SchedulerStats

from internvl.errors import Draining, GrammarInvalid, PromptTooLong, QueueFull, Unavailable
from llm_service.engine.grammar import Grammar, Grammars
from llm_service.engine.interface import (
    Admitted,
    Counts,
    Engine,
    EngineRequest,
    EngineStatus,
    GeneratedToken,
    SamplingParameters,
)
from llm_service.engine.rows import load_rows
from llm_service.engine.vllm.items import check_rows
from llm_service.engine.vllm.options import VllmOptions
from llm_service.engine.vllm.request import admitted, engine_input, generated_tokens, sampling_params
from shared.serving.watchdog import Watchdog

log = logging.getLogger(__name__)


class _Stats(StatLoggerBase):
    """vLLM's own counters, as they were after its last step."""

    def __init__(self, watchdog: Watchdog) -> None:
        self.last = SchedulerStats()
        self._watchdog = watchdog
        self.counts = Counts()
        """Waits are those of requests that have finished: vLLM tells them then."""

    def record(
        self, scheduler_stats: SchedulerStats | None, iteration_stats: IterationStats | None, *_: object, **__: object
    ) -> None:
        self.last = scheduler_stats or self.last
        if self._watchdog.age_seconds:  # vLLM has requests: its next step is under way
            self._watchdog.begin()
        if iteration_stats is None:
            return
        stats = iteration_stats
        self.counts += Counts(
            preemption_count=stats.num_preempted_reqs,
            step_count=1,
            step_token_count=stats.prompt_token_stats.computed + stats.num_generation_tokens,
            started_count=len(stats.time_to_first_tokens_iter),
            queue_wait_seconds=sum(request.queued_time for request in stats.finished_requests),
        )

    def log_engine_initialized(self) -> None:
        pass


class VllmEngine(Engine):
    """Made inside the event loop that will use it; returns when the model is loaded, which may take minutes."""

    def __init__(self, options: VllmOptions, grammars: Grammars | None = None) -> None:
        """`grammars`: of the model's tokenizer; without them no request may have a grammar.

        Raises ValueError for options that vLLM refuses, RuntimeError when its processes do not start."""
        self._grammars = grammars
        self._folder = tempfile.TemporaryDirectory(prefix="internvl-vllm-")
        arguments = _engine_arguments(options.arguments(Path(self._folder.name)))
        self._watchdog = Watchdog(options.step_seconds)
        """vLLM tells of each step when it is over; the next is under way for as long as it has requests."""
        self._stats: list[_Stats] = []
        self._llm = AsyncLLM.from_engine_args(arguments, stat_loggers=[self._new_stats])
        config = self._llm.vllm_config
        self._token_limit = int(config.model_config.max_model_len)
        self._page_count = int(config.cache_config.num_gpu_blocks) - 1  # vLLM keeps one empty
        self._width = int(config.model_config.get_hidden_size())
        self._max_live = options.max_running + options.max_waiting
        self._live: set[str] = set()
        self._submitted: set[str] = set()
        """Those of them that vLLM has."""
        self._waiting_tokens: dict[str, int] = {}
        """Tokens of the prompts whose first token has not come."""
        self._numbers = itertools.count()
        self._closing: Unavailable | None = None
        self._failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._watches = [asyncio.create_task(watch) for watch in (self._watch_vllm(), self._watch_steps())]

    @classmethod
    async def start(cls, options: VllmOptions, grammars: Grammars | None = None) -> Self:
        """An engine that has drawn a token already: vLLM compiles what chooses tokens when it is first needed."""
        engine = cls(options, grammars)
        sampling = SamplingParameters(seed=0, temperature=1.0, top_logprob_count=1)
        request = EngineRequest("", [0, 0], (), sampling, max_tokens=2, stop_token_ids=frozenset())
        async with aclosing(engine.generate(request)) as tokens:
            async for _ in tokens:
                pass
        return engine

    def _new_stats(self, vllm_config: VllmConfig, engine_index: int = 0) -> _Stats:
        self._stats.append(_Stats(self._watchdog))
        return self._stats[-1]

    async def generate(self, request: EngineRequest) -> AsyncGenerator[Admitted | GeneratedToken]:
        grammar = await self._grammar(request)
        reply_ids = list(request.resume_ids)
        name = self._admit(request)
        try:
            rows = await self._load(request)
            self._refuse_when_closing()
            self._submit(name)
            outputs = self._llm.generate(engine_input(request, rows), sampling_params(request), name)
            async with aclosing(outputs):
                async for output in outputs:
                    if output.outputs[0].finish_reason not in (None, "stop", "length"):
                        raise self._closing or Unavailable("the engine gave the request up")
                    if self._waiting_tokens.pop(name, None) is not None:  # its first
                        yield admitted(request, output)
                    for token in generated_tokens(request, output):
                        reply_ids.append(token.token_id)
                        if grammar is not None and token.finish is not None and not grammar.allows(reply_ids):
                            raise GrammarInvalid("the grammar takes more work than is allowed")
                        yield token
        except EngineDeadError as error:
            self._die("vLLM has died")
            raise self._closing or Unavailable("the engine has died") from error
        finally:
            self._forget(name)

    async def _grammar(self, request: EngineRequest) -> Grammar | None:
        """Compiled here too: the workers cannot refuse one, nor fail a reply whose grammar has failed."""
        if request.sampling.grammar is None:
            return None
        assert self._grammars is not None
        return await asyncio.wrap_future(self._grammars.compile(request.sampling.grammar))

    async def failed(self) -> str:
        return await asyncio.shield(self._failed)

    def status(self) -> EngineStatus:
        stats = self._stats[0]
        running = min(stats.last.num_running_reqs, len(self._live))
        return EngineStatus(
            waiting_count=len(self._live) - running,
            running_count=running,
            page_count=self._page_count,
            used_page_count=round(stats.last.kv_cache_usage * self._page_count),
            waiting_token_count=sum(tuple(self._waiting_tokens.values())),
            step_age_seconds=self._watchdog.age_seconds,
            since_start=stats.counts,
        )

    async def forget_cached(self) -> bool:
        """Empties vLLM's prefix cache. False, and nothing is done, while any page is held."""
        return bool(await self._llm.reset_prefix_cache())

    async def close(self) -> None:
        self._closing = self._closing or Draining("the engine is shutting down")
        for watch in self._watches:
            watch.cancel()
        if not self._llm.errored:
            await self._llm.abort(list(self._live))
        if self._llm.output_handler is not None:
            self._llm.output_handler.cancel()  # else it reports the end as a death
        await asyncio.to_thread(self._llm.shutdown)
        self._folder.cleanup()

    def _admit(self, request: EngineRequest) -> str:
        """A name for the request. What vLLM would queue without end, or cut short, is refused."""
        self._refuse_when_closing()
        wanted = len(request.prompt_ids) + request.max_tokens
        if wanted > self._token_limit:
            raise PromptTooLong(
                f"prompt and max_tokens need {wanted} cached tokens, this replica takes {self._token_limit}"
            )
        if len(self._live) >= self._max_live:
            raise QueueFull(f"{len(self._live)} requests wait or run already", retry_after_seconds=1.0)
        name = str(next(self._numbers))
        self._live.add(name)
        self._waiting_tokens[name] = len(request.prompt_ids)
        return name

    def _submit(self, name: str) -> None:
        if not self._submitted:
            self._watchdog.begin()
        self._submitted.add(name)

    def _forget(self, name: str) -> None:
        self._live.discard(name)
        self._waiting_tokens.pop(name, None)
        self._submitted.discard(name)
        if not self._submitted:
            self._watchdog.end()

    async def _load(self, request: EngineRequest) -> list[torch.Tensor]:
        """All rows: which of them its cache lacks only vLLM knows, and by then it must have them."""
        rows = await load_rows([(visual, 0) for visual in request.visuals])
        for visual, each in zip(request.visuals, rows, strict=True):
            check_rows(each, visual, self._width)
        return rows

    def _refuse_when_closing(self) -> None:
        if self._closing is not None:
            raise type(self._closing)(self._closing.message)

    async def _watch_vllm(self) -> None:
        """vLLM reports its death to requests alone, but the task that reads its answers ends."""
        assert self._llm.output_handler is not None
        await asyncio.wait([self._llm.output_handler])
        self._die("vLLM has died")

    async def _watch_steps(self) -> None:
        self._die(await self._watchdog.overdue())
        await self._llm.abort(list(self._submitted))  # they end in this process, whether or not vLLM's hears of it

    def _die(self, cause: str) -> None:
        """Makes `failed` return, and requests end with this when vLLM gives them up."""
        if self._closing is None:
            log.critical("the engine has died", extra={"cause": cause})
            self._closing = Unavailable("the engine has died")
        if not self._failed.done():
            self._failed.set_result(cause)


def _engine_arguments(arguments: dict[str, Any]) -> AsyncEngineArgs:
    if unknown := sorted(arguments.keys() - {field.name for field in fields(AsyncEngineArgs)}):
        raise ValueError(f"vllm_arguments holds {', '.join(unknown)}, which vLLM does not know")
    return AsyncEngineArgs(**arguments)
