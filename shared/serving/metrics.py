"""Metrics of this process: one registry, its HTTP port, and the metrics that every service has.

Each service names its own metrics in its `metrics.py`. Names begin with internvl_ and end with their unit; labels take
few values: never a tenant, a key, an address or a message.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
    start_http_server,
)
from prometheus_client.registry import Collector

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Bounds of every histogram of durations."""
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
"""Bounds of every histogram of sizes."""

BUILD = Gauge("internvl_build_info", "1; what runs.", ["service", "version"], registry=REGISTRY)
CALLS = Counter("internvl_calls", "gRPC calls that ended.", ["method", "status", "reason"], registry=REGISTRY)
CALL_SECONDS = Histogram(
    "internvl_call_seconds", "How long a gRPC call took.", ["method"], registry=REGISTRY, buckets=SECONDS
)
STORE_READS = Counter(
    "internvl_store_reads",
    "Embeddings looked for or read in the store: hit, miss, or evicted (some of it is gone).",
    ["result"],
    registry=REGISTRY,
)
STORE_READ_BYTES = Counter("internvl_store_read_bytes", "Bytes of embeddings read from the store.", registry=REGISTRY)
STORE_WRITTEN_BYTES = Counter(
    "internvl_store_written_bytes", "Bytes of embeddings written to the store.", registry=REGISTRY
)
STORE_INVALID_VALUES = Counter(
    "internvl_store_invalid_values", "Stored values that failed their checks.", registry=REGISTRY
)
STORE_FAILURES = Counter("internvl_store_failures", "Calls that the store did not answer.", registry=REGISTRY)


def render_metrics() -> tuple[bytes, str]:
    """Body and content type of a scrape, for a server that speaks HTTP already."""
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST


@contextmanager
def metrics_server(service: str, host: str, port: int | None) -> Iterator[int | None]:
    """Serves /metrics over HTTP, in a thread of its own, while the context lasts; yields the port.

    `port` None: nothing is served; 0: the system chooses. Raises OSError when the port is taken.
    """
    BUILD.labels(service, _version()).set(1)
    if port is None:
        yield None
        return
    server, thread = start_http_server(port, host, REGISTRY)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def collected(collector: Collector) -> Iterator[None]:
    """Asks `collector` at every scrape, from the scrape's thread, while the context lasts."""
    REGISTRY.register(collector)
    try:
        yield
    finally:
        REGISTRY.unregister(collector)


def _version() -> str:
    try:
        return version("internvl-serving")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"
