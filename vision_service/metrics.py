"""Metrics of the vision service, beside those of all services (`shared.serving.metrics`)."""

from collections.abc import Callable, Iterator

from prometheus_client import Counter, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.serving.metrics import COUNTS, REGISTRY, SECONDS
from vision_service.encoder_status import EncoderStatus

DECODE_SECONDS = Histogram(
    "internvl_vision_decode_seconds",
    "From a file's bytes to its tiles, the wait for a decoder included.",
    registry=REGISTRY,
    buckets=SECONDS,
)
QUEUE_WAIT_SECONDS = Histogram(
    "internvl_vision_queue_wait_seconds",
    "How long a request's tiles waited until the model took the first.",
    registry=REGISTRY,
    buckets=SECONDS,
)
BATCH_TILES = Histogram(
    "internvl_vision_batch_tiles", "Tiles of one pass through the model.", registry=REGISTRY, buckets=COUNTS
)
BATCH_SECONDS = Histogram(
    "internvl_vision_batch_seconds", "One pass through the model.", registry=REGISTRY, buckets=SECONDS
)
TILES = Counter("internvl_vision_tiles", "Tiles encoded.", registry=REGISTRY)
EMBEDDINGS = Counter(
    "internvl_vision_embeddings",
    "Images and videos answered: found (hit) or made (miss).",
    ["result"],
    registry=REGISTRY,
)
MEMORY_EVICTIONS = Counter(
    "internvl_vision_memory_evictions", "Copies that made room for others in this replica's memory.", registry=REGISTRY
)
DROPPED_WRITES = Counter(
    "internvl_vision_dropped_writes", "Writes to the store that were dropped for lack of room.", registry=REGISTRY
)


class EncoderCollector(Collector):
    """Load of the encoder at the time of the scrape."""

    def __init__(self, status: Callable[[], EncoderStatus]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        for name, text, value in (
            ("queued_tiles", "Tiles that wait for the model.", status.queued_tile_count),
            ("decoding_files", "Files that are or wait to be decoded.", status.decoding_count),
            ("pending_write_bytes", "Bytes on their way to the store.", status.pending_write_bytes),
            ("degraded", "1 while the store fails.", int(status.is_degraded)),
        ):
            yield GaugeMetricFamily(f"internvl_vision_{name}", text, value)
