"""Metrics of the LLM service, beside those of all services (`shared.serving.metrics`)."""

import time
from collections.abc import Callable, Iterator

from prometheus_client import Counter, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from llm_service.engine.interface import EngineStatus
from shared.serving.metrics import REGISTRY, SECONDS

PROMPT_TOKENS = Counter("internvl_llm_prompt_tokens", "Tokens of prompts that began a reply.", registry=REGISTRY)
CACHED_TOKENS = Counter("internvl_llm_cached_tokens", "Those of them found in the prefix cache.", registry=REGISTRY)
COMPLETION_TOKENS = Counter("internvl_llm_completion_tokens", "Tokens of replies.", registry=REGISTRY)
RESUMED_REPLIES = Counter("internvl_llm_resumed_replies", "Replies begun elsewhere.", registry=REGISTRY)
FIRST_TOKEN_SECONDS = Histogram(
    "internvl_llm_first_token_seconds",
    "From a request's arrival to its first token.",
    registry=REGISTRY,
    buckets=SECONDS,
)
BETWEEN_TOKENS_SECONDS = Histogram(
    "internvl_llm_between_tokens_seconds", "From one token of a reply to its next.", registry=REGISTRY, buckets=SECONDS
)
FETCH_SECONDS = Histogram(
    "internvl_llm_fetch_seconds", "Getting the rows of one picture or clip.", registry=REGISTRY, buckets=SECONDS
)
PULLS = Counter(
    "internvl_llm_pulls",
    "Embeddings had from the vision replica that made them.",
    registry=REGISTRY,
)


class ReplyClock:
    """Observes when the tokens of one reply come."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._histogram = FIRST_TOKEN_SECONDS

    def token(self) -> None:
        now = time.monotonic()
        self._histogram.observe(now - self._last)
        self._last, self._histogram = now, BETWEEN_TOKENS_SECONDS


class EngineCollector(Collector):
    """State of the engine at the time of the scrape, and its counts until then."""

    def __init__(self, status: Callable[[], EngineStatus]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        for name, text, value in (
            ("waiting_requests", "Requests that have not started.", status.waiting_count),
            (
                "waiting_tokens",
                "Tokens that those still have to compute.",
                status.waiting_token_count,
            ),
            ("running_requests", "Requests in the batch.", status.running_count),
            ("kv_pages", "Pages of the cache of keys and values.", status.page_count),
            ("kv_used_pages", "Those of them that requests hold.", status.used_page_count),
        ):
            yield GaugeMetricFamily(f"internvl_llm_{name}", text, value)
        counts = status.since_start
        for name, text, count in (
            ("preemptions", "Requests that lost their pages and started again.", counts.preemption_count),
            ("steps", "Passes through the model.", counts.step_count),
            ("step_tokens", "Tokens of all passes; over steps, the mean batch.", counts.step_token_count),
            ("started_requests", "Requests that left the queue.", counts.started_count),
            ("queue_wait_seconds", "What those waited, in all.", counts.queue_wait_seconds),
        ):
            yield CounterMetricFamily(f"internvl_llm_{name}", text, count)
