"""Cost of the embedding store: `python -m bench.store [--plot store.png]`.

    reads   one tile at a time, checked and copied into a tensor, against a plain redis-py GET of the same value
    hits    Encode of an image that a running vision service has seen, against a bare unary call
    once    64 requests for one new image on two replicas: how often it is encoded

Ratios within one run are what to look at; both sides share the machine.
"""

import argparse
import asyncio
import gc
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import redis.asyncio
import torch

from bench.machine import allocate_as_services
from bench.soak.replicas import Replicas
from internvl.vision.v1 import vision_pb2, vision_pb2_grpc
from llm_service.conversation import Visual
from llm_service.embeddings import EmbeddingLoader
from shared.store.embedding_store import EmbeddingStore, Manifest, frame_tile
from shared.store.framing import Codec
from shared.store.redis_store import RedisStore
from tests.support.checkpoints import write_random_checkpoint
from tests.support.pictures import file_of
from tests.support.redis import RedisProcess, server

WIDTHS = {"1B": 896, "8B": 3584, "78B": 8192}
ROWS = 256
_HITS = 400


@dataclass(frozen=True)
class ReadRow:
    """GB/s (1e9) of one width, by the wall clock and by this process's CPU time."""

    name: str
    tile_bytes: int
    plain_wall: float
    plain_cpu: float
    ours_wall: float
    ours_cpu: float
    compressed_wall: float
    stored_fraction: float
    """Share of the tile's bytes, compressed."""


async def read_rates(server_process: RedisProcess) -> list[ReadRow]:
    """Rates at each width, bfloat16, over a socket file."""
    plain = redis.asyncio.Redis.from_url(server_process.url)
    values = RedisStore(server_process.url)
    store = EmbeddingStore(values, seconds=600)
    rows = [await _read_row(name, width, store, plain) for name, width in WIDTHS.items()]
    await values.close()
    await plain.aclose()
    return rows


async def _read_row(name: str, width: int, store: EmbeddingStore, plain: "redis.asyncio.Redis") -> ReadRow:
    loader = EmbeddingLoader(store, hidden_size=width, max_message_bytes=64 << 20)
    manifest = Manifest(ROWS, width, "bfloat16", (1,))
    data = torch.randn(ROWS, width, generator=torch.Generator().manual_seed(0)).bfloat16()
    stored_bytes = {}
    visuals = {}
    for codec in Codec:
        visuals[codec] = Visual(str(int(codec)) * 64, ROWS, (1,), is_clip=False, increment=256)
        tile = frame_tile(visuals[codec].key, 0, data.view(torch.uint8).numpy().tobytes(), manifest, codec=codec)
        stored_bytes[codec] = len(tile)
        await store.put(visuals[codec].key, manifest, [tile])
        assert torch.equal(await loader.load(visuals[codec], 0, ROWS), data)
    count = max(30, (512 << 20) // manifest.tile_bytes)
    tile_name = f"internvl:{{{visuals[Codec.RAW].key}}}:0"
    got = await _rate(lambda: plain.get(tile_name), count, manifest.tile_bytes)
    ours = await _rate(lambda: loader.load(visuals[Codec.RAW], 0, ROWS), count, manifest.tile_bytes)
    packed = await _rate(lambda: loader.load(visuals[Codec.PLANES], 0, ROWS), count // 3, manifest.tile_bytes)
    await loader.close()
    fraction = stored_bytes[Codec.PLANES] / manifest.tile_bytes
    return ReadRow(name, manifest.tile_bytes, *got, *ours, packed[0], fraction)


async def _rate(read: Callable[[], Awaitable[Any]], count: int, size: int) -> tuple[float, float]:
    """GB/s by wall clock and by CPU time: the better of three rounds, for the worse ones had company."""
    best = (0.0, 0.0)
    for _ in range(3):
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            await read()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        best = max(best, (count * size / wall / 1e9, count * size / cpu / 1e9))
    return best


class _Echo(grpc.GenericRpcHandler):
    """A unary call that does nothing."""

    def service(self, handler_call_details: Any) -> Any:
        async def answer(request: bytes, context: Any) -> bytes:
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


async def hit_latencies(replicas: Replicas, picture: bytes) -> dict[str, list[float]]:
    """Milliseconds of calls, one at a time: an echo of the same bytes, and hits."""
    echo_server = grpc.aio.server()
    echo_server.add_generic_rpc_handlers((_Echo(),))
    port = echo_server.add_insecure_port("127.0.0.1:0")
    await echo_server.start()
    first, second = (vision_pb2_grpc.VisionServiceStub(replicas.channel(replicas.address(index))) for index in range(2))
    made = await first.Encode(vision_pb2.EncodeRequest(tenant="bench", data=picture))
    by_bytes = vision_pb2.EncodeRequest(tenant="bench", data=picture)
    by_id = vision_pb2.EncodeRequest(tenant="bench", media_id=made.media_id)
    assert not made.cached
    await asyncio.sleep(1.0)  # behind that answer, Redis gets it, too
    assert (await second.Encode(by_id)).cached
    await asyncio.sleep(0.2)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        echo: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/bench.Echo/Call")
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "echo, same bytes": lambda: echo(picture),
            "hit by bytes, memory": lambda: first.Encode(by_bytes),
            "hit by id, memory": lambda: first.Encode(by_id),
            "hit by id, Redis": lambda: second.Encode(by_id),
        }
        latencies = {name: await _latencies(call) for name, call in calls.items()}
    await echo_server.stop(None)
    return latencies


async def _latencies(call: Callable[[], Awaitable[Any]]) -> list[float]:
    measured = []
    for _ in range(_HITS):
        started = time.perf_counter()
        answer = await call()
        measured.append(1000 * (time.perf_counter() - started))
        assert getattr(answer, "cached", True)
    return sorted(measured)


async def encoded_count(replicas: Replicas, picture: bytes) -> int:
    """How many of 64 requests at once, on two replicas, made an embedding that none of them had found."""
    stubs = [vision_pb2_grpc.VisionServiceStub(replicas.channel(replicas.address(index))) for index in range(2)]
    before = [replicas.log_count(index, "encoded") for index in range(2)]
    request = vision_pb2.EncodeRequest(tenant="bench", data=picture)
    await asyncio.gather(*(stubs[index % 2].Encode(request, timeout=60) for index in range(64)))
    return sum(replicas.log_count(index, "encoded") - before[index] for index in range(2))


async def run() -> tuple[list[ReadRow], dict[str, list[float]], int]:
    """All three, on servers of their own."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        process = server()
        process.start()
        stack.callback(process.close)
        reads = await read_rates(process)
        write_random_checkpoint(folder / "checkpoint")
        replicas = Replicas(2, folder / "checkpoint", process.url, folder)
        stack.push_async_callback(replicas.close)
        await asyncio.gather(*(replicas.start(index) for index in range(2)))
        latencies = await hit_latencies(replicas, file_of(1920, 1080, kind="JPEG", quality=85))
        return reads, latencies, await encoded_count(replicas, file_of(640, 480))


def _print(reads: Sequence[ReadRow], latencies: dict[str, list[float]], encoded: int) -> None:
    print(f"{'tile':>10} {'MiB':>6} | {'redis-py GET':>19} | {'store, checked':>19} | {'ratio':>5} | compressed")
    print(f"{'':>17} |      wall  per core |      wall  per core |  wall |  wall  size")
    for row in reads:
        print(
            f"{row.name:>10} {row.tile_bytes / (1 << 20):6.2f} | {row.plain_wall:9.2f} {row.plain_cpu:9.2f} | "
            f"{row.ours_wall:9.2f} {row.ours_cpu:9.2f} | {row.ours_wall / row.plain_wall:5.2f} | "
            f"{row.compressed_wall:5.2f} {row.stored_fraction:5.2f}"
        )
    print(f"\n{'milliseconds':>22} {'p50':>7} {'p90':>7} {'p99':>7} {'most':>7}")
    for name, measured in latencies.items():
        percentiles = [measured[int(share * (len(measured) - 1))] for share in (0.5, 0.9, 0.99, 1.0)]
        print(f"{name:>22} " + " ".join(f"{value:7.2f}" for value in percentiles))
    print(f"\n64 requests for one new image on two replicas: encoded {encoded} time(s)")


def _plot(path: Path, reads: Sequence[ReadRow], latencies: dict[str, list[float]]) -> None:
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    places = range(len(reads))
    left.bar([place - 0.2 for place in places], [row.plain_cpu for row in reads], 0.4, label="redis-py GET, unchecked")
    left.bar(
        [place + 0.2 for place in places], [row.ours_cpu for row in reads], 0.4, label="store, checked, in a tensor"
    )
    left.axhline(0.8, color="grey", linestyle=":", label="wanted at 4 MiB")
    left.set_xticks(places, [f"{row.name}\n{row.tile_bytes / (1 << 20):.2f} MiB" for row in reads])
    left.set(title="Reads of one tile", ylabel="GB/s per core", ylim=(0, 2))  # room for the legend
    for name, measured in latencies.items():
        right.plot(measured, [100 * (index + 1) / len(measured) for index in range(len(measured))], label=name)
    right.axvline(5, color="grey", linestyle=":", label="wanted")
    right.set(title="Encode of a picture seen before", xlabel="ms", ylabel="% of calls", xscale="log")
    for axes in (left, right):
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--plot", type=Path, help="write a picture of it here")
    options = parser.parse_args()
    allocate_as_services("bench.store")
    torch.set_num_threads(1)
    reads, latencies, encoded = asyncio.run(run())
    _print(reads, latencies, encoded)
    if options.plot is not None:
        _plot(options.plot, reads, latencies)


if __name__ == "__main__":
    main()
