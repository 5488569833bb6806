"""Metrics of the gateway, beside those of all services (`shared.serving.metrics`)."""

from collections.abc import Callable, Iterator

from prometheus_client import Counter, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.serving.metrics import REGISTRY, SECONDS

ENCODE_SECONDS = Histogram(
    "internvl_gateway_encode_seconds",
    "From a request's arrival until all its pictures are encoded or found.",
    registry=REGISTRY,
    buckets=SECONDS,
)
FIRST_TOKEN_SECONDS = Histogram(
    "internvl_gateway_first_token_seconds",
    "From a request's arrival to its first token.",
    registry=REGISTRY,
    buckets=SECONDS,
)
CHAT_SECONDS = Histogram(
    "internvl_gateway_chat_seconds", "From a request's arrival to its end.", registry=REGISTRY, buckets=SECONDS
)
COMPLETION_TOKENS = Counter("internvl_gateway_completion_tokens", "Tokens of replies.", registry=REGISTRY)
MOVED_REPLIES = Counter(
    "internvl_gateway_moved_replies", "Replies that went on elsewhere after their replica failed.", registry=REGISTRY
)
REPEATED_CALLS = Counter("internvl_gateway_repeated_calls", "Calls made again, to any service.", registry=REGISTRY)


class GatewayCollector(Collector):
    """State of the gateway at the time of the scrape."""

    def __init__(self, running: Callable[[], int], usable: Callable[[], dict[str, int]]) -> None:
        """`usable`: replicas that can be called, by service."""
        self._running = running
        self._usable = usable

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("internvl_gateway_running_requests", "Requests being answered.", self._running())
        replicas = GaugeMetricFamily(
            "internvl_gateway_replicas", "Replicas behind the gateway that can be called.", labels=["service"]
        )
        for service, count in self._usable().items():
            replicas.add_metric([service], count)
        yield replicas
