"""What a scrape of a serving process says, over real HTTP and gRPC."""

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import ClassVar

import grpc
import pytest
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from internvl.chat.v1 import chat_pb2, chat_pb2_grpc
from internvl.errors import EmbeddingNotFound, QueueFull
from shared.serving.metrics import REGISTRY, collected, metrics_server, render_metrics
from shared.serving.rpc import Server
from shared.serving.settings import ServiceSettings
from shared.store.embedding_store import EmbeddingStore, Manifest, frame_tile
from shared.store.value_store import MemoryStore


class LoopbackSettings(ServiceSettings):
    service: ClassVar[str] = "test"
    port: int = 0


class Refusing(chat_pb2_grpc.ChatServiceServicer):
    """Is always full."""

    def Chat(  # noqa: N802
        self, request: chat_pb2.ChatRequest, context: object
    ) -> AsyncIterator[chat_pb2.ChatResponse]:
        raise QueueFull("full")

    async def GetModelInfo(  # noqa: N802
        self, request: chat_pb2.GetModelInfoRequest, context: object
    ) -> chat_pb2.GetModelInfoResponse:
        raise QueueFull("full")


@contextmanager
def counts(name: str, **labels: str) -> Iterator[list[float]]:
    """By how much a sample grew while the context lasted."""
    growth: list[float] = []
    before = REGISTRY.get_sample_value(name, labels) or 0.0
    yield growth
    growth.append((REGISTRY.get_sample_value(name, labels) or 0.0) - before)


async def test_a_call_is_counted_with_its_status_and_reason() -> None:
    server = Server(LoopbackSettings())
    chat_pb2_grpc.add_ChatServiceServicer_to_server(Refusing(), server.grpc)
    await server.grpc.start()
    method = "/internvl.chat.v1.ChatService/GetModelInfo"
    with (
        counts("internvl_calls_total", method=method, status="RESOURCE_EXHAUSTED", reason="QUEUE_FULL") as calls,
        counts("internvl_call_seconds_count", method=method) as durations,
    ):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await chat_pb2_grpc.ChatServiceStub(channel).GetModelInfo(chat_pb2.GetModelInfoRequest())
    await server.grpc.stop(None)
    assert (calls, durations) == ([1], [1])


async def test_a_scrape_over_http_is_what_the_registry_holds() -> None:
    with metrics_server("test", "127.0.0.1", 0) as port:
        body = await asyncio.to_thread(_get, f"http://127.0.0.1:{port}/metrics")
    families = {family.name for family in text_string_to_metric_families(body)}
    assert {"internvl_build_info", "internvl_calls", "process_resident_memory_bytes"} <= families
    assert 'internvl_build_info{service="test"' in body
    assert {family.name for family in text_string_to_metric_families(render_metrics()[0].decode())} == families


def test_a_port_that_is_taken_is_said() -> None:
    with metrics_server("test", "127.0.0.1", 0) as port, pytest.raises(OSError, match="in use"):
        metrics_server("test", "127.0.0.1", port).__enter__()


def test_no_port_serves_nothing() -> None:
    with metrics_server("test", "127.0.0.1", None) as port:
        assert port is None


def test_a_collector_is_asked_only_while_its_context_lasts() -> None:
    class Seven(Collector):
        def collect(self) -> Iterator[Metric]:
            yield GaugeMetricFamily("internvl_test_seven", "7", 7)

    with collected(Seven()):
        assert REGISTRY.get_sample_value("internvl_test_seven") == 7
    assert REGISTRY.get_sample_value("internvl_test_seven") is None


async def test_the_store_counts_hits_misses_evictions_bad_values_and_bytes() -> None:
    values = MemoryStore(1 << 20)
    store = EmbeddingStore(values, seconds=60)
    manifest = Manifest(2, 4, "float32", (2,))
    tiles = [frame_tile("k", index, bytes(32), manifest) for index in range(2)]
    with (
        counts("internvl_store_reads_total", result="hit") as hits,
        counts("internvl_store_reads_total", result="miss") as misses,
        counts("internvl_store_reads_total", result="evicted") as evictions,
        counts("internvl_store_invalid_values_total") as invalid,
        counts("internvl_store_read_bytes_total") as read,
        counts("internvl_store_written_bytes_total") as written,
    ):
        assert await store.find("k") is None
        await store.put("k", manifest, tiles)
        assert await store.find("k") == manifest
        await store.read("k", [0, 1])
        await values.put({"internvl:{k}:1": b"nonsense"}, 60)
        with pytest.raises(EmbeddingNotFound):
            await store.read("k", [0, 1])
        await store.put("k", manifest, tiles)
        await values.delete(["internvl:{k}:1"])
        assert await store.find("k") is None
    assert (hits, misses, evictions, invalid) == ([2], [1], [1], [1])
    assert (read, written) == ([64], [2 * sum(map(len, tiles))])


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as response:
        return str(response.read().decode())
