"""Load on vision replicas and their readers while Redis is made to fail in every way.

    python -m bench.soak --seconds 600

Readers look at pictures, read the rows as the LLM service does, encode again once when they are gone, as the gateway
does, and compare them with what the model says. Counted are wrong rows, requests that did not end, and the memory of
the replicas. tests/integration/test_soak.py is the same for some seconds.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import torch

from deploy.local.process import Child
from llm_service.conversation import Visual
from llm_service.embeddings import EmbeddingLoader
from shared.channel import open_channel
from shared.checkpoint import Checkpoint
from shared.embedding_store import EmbeddingStore
from shared.errors import DeadlineExceeded, EmbeddingNotFound, InternvlError, NotFound, ResourceExhausted, Unavailable
from shared.model_config import ModelConfig
from shared.pb.internvl.common.v1 import visual_pb2
from shared.pb.internvl.vision.v1 import vision_pb2, vision_pb2_grpc
from shared.redis_store import RedisStore
from shared.status import from_call_error
from tests.support.checkpoints import TILE_SIZE, write_random_checkpoint
from tests.support.faulty_proxy import Fault, FaultyProxy
from tests.support.pictures import file_of
from tests.support.redis import RedisProcess, server
from vision_service.image.decoding import ImageLimits, decode_image
from vision_service.model.loading import load_visual_encoder
from vision_service.pixels import normalize
from vision_service.tiles import TilingOptions, cut

HIDDEN_SIZE = 64
PATIENCE_SECONDS = 30.0
_MEBIBYTE = 1 << 20
_LIMITS = ImageLimits(1 << 24, 1 << 24, 1 << 14)
_ALLOWED = (NotFound, ResourceExhausted, Unavailable)
"""What a request may be told while Redis fails or a replica is gone."""


@dataclass
class Outcome:
    """What the readers saw."""

    right: int = 0
    wrong: int = 0
    hanging: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    cached: int = 0
    slowest_seconds: float = 0.0
    first_memory_bytes: int = 0
    last_memory_bytes: int = 0

    @property
    def is_good(self) -> bool:
        return self.right > 0 and not (self.wrong or self.hanging or self.unexpected)


class Readers:
    """Requests, one after the other in each of several tasks."""

    def __init__(self, replicas: "Replicas", redis_url: str, rows: dict[bytes, torch.Tensor], outcome: Outcome) -> None:
        self._replicas = replicas
        self._rows = rows
        self._outcome = outcome
        self._redis = RedisStore(redis_url)
        store = EmbeddingStore(self._redis, seconds=600)
        self._loader = EmbeddingLoader(store, hidden_size=HIDDEN_SIZE, max_message_bytes=64 * _MEBIBYTE)

    async def run(self, generator: random.Random, is_over: Callable[[], bool]) -> None:
        """Looks at some pictures often and at others seldom."""
        pictures = list(self._rows)
        while not is_over():
            picture = pictures[min(int(generator.expovariate(1 / 12)), len(pictures) - 1)]
            await self.one(picture, self._replicas.any_address(generator))

    async def one(self, picture: bytes, address: str) -> bool:
        """One request, noted in the outcome; whether its rows came and were right."""
        outcome, started = self._outcome, time.monotonic()
        try:
            async with asyncio.timeout(2 * PATIENCE_SECONDS):
                rows = await self._read_or_encode_again(picture, address)
        except (TimeoutError, DeadlineExceeded):
            outcome.hanging += 1
        except _ALLOWED as error:
            outcome.refused[error.reason()] += 1
        except InternvlError as error:
            outcome.unexpected[f"{error.reason()} {error.message}"] += 1
        else:
            is_right = rows.shape == self._rows[picture].shape and torch.allclose(rows, self._rows[picture], atol=1e-4)
            outcome.right += is_right
            outcome.wrong += not is_right
            return is_right
        finally:
            outcome.slowest_seconds = max(outcome.slowest_seconds, time.monotonic() - started)
        return False

    async def close(self) -> None:
        await self._loader.close()
        await self._redis.close()

    async def _read_or_encode_again(self, picture: bytes, address: str) -> torch.Tensor:
        try:
            return await self._read(await self._encode(picture, address))
        except EmbeddingNotFound:
            return await self._read(await self._encode(picture, address))

    async def _encode(self, picture: bytes, address: str) -> visual_pb2.EmbeddingReference:
        stub = vision_pb2_grpc.VisionServiceStub(self._replicas.channel(address))
        request = vision_pb2.EncodeRequest(tenant="soak", data=picture)
        try:
            response = await stub.Encode(request, timeout=PATIENCE_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise from_call_error(error) from error
        self._outcome.cached += response.cached
        return response.embedding

    async def _read(self, found: visual_pb2.EmbeddingReference) -> torch.Tensor:
        visual = Visual(
            found.key, found.tokens_per_tile, (found.tile_count,), is_clip=False, increment=256, holder=found.holder
        )
        return await self._loader.load(visual, 0, visual.token_count)


class Replicas:
    """Vision processes that can be killed and come back."""

    def __init__(
        self, count: int, checkpoint: Path, redis_url: str, folder: Path, *, flags: Sequence[str] = ()
    ) -> None:
        self._checkpoint, self._redis_url, self._folder, self._flags = checkpoint, redis_url, folder, flags
        self._children: list[Child | None] = [None] * count
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def start(self, index: int) -> None:
        """Returns when it serves."""
        flags = ["--model", str(self._checkpoint), "--port", "0", "--drain-seconds", "5", "--threads", "1"]
        environment = {"INTERNVL_VISION_REDIS_URL": self._redis_url}
        command = [sys.executable, "-m", "vision_service", *flags, *self._flags]
        child = await Child.start(f"vision{index}", command, log_folder=self._folder, environment=environment)
        await child.ready()
        self._children[index] = child

    async def kill(self, index: int) -> None:
        """As a crash would; back at once."""
        child = self._children[index]
        if child is not None:
            self._children[index] = None
            await child.stop(0.0)
            await self.start(index)

    def any_address(self, generator: random.Random) -> str:
        return generator.choice([child.address for child in self._children if child is not None] or [""])

    def address(self, index: int) -> str:
        child = self._children[index]
        assert child is not None
        return child.address

    def log_count(self, index: int, message: str) -> int:
        """Lines of a replica's log with that message."""
        return (self._folder / f"vision{index}.log").read_text().count(f'"message": "{message}"')

    def channel(self, address: str) -> grpc.aio.Channel:
        if address not in self._channels:
            self._channels[address] = open_channel(address, max_message_bytes=64 * _MEBIBYTE)
        return self._channels[address]

    def memory_bytes(self) -> int:
        """Resident memory of all of them."""
        children = [child for child in self._children if child is not None]
        return sum(_resident_bytes(child.pid) for child in children)

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()
        for child in self._children:
            if child is not None:
                await child.stop(10.0)


class Chaos:
    """One fault after the other."""

    def __init__(self, redis: RedisProcess, proxy: FaultyProxy, replicas: Replicas, outcome: Outcome) -> None:
        self._redis, self._proxy, self._replicas, self._outcome = redis, proxy, replicas, outcome
        self._faults: dict[str, Callable[[random.Random], None]] = {
            "flushed": self._flush,
            "full": self._fill,
            "evicting": self._evict,
            "bits flipped": self._flip,
            "values exchanged": self._exchange,
        }

    async def run(self, generator: random.Random, until: float, *, seconds_each: float, kills: bool) -> None:
        """In rounds of all of them until that time of the monotonic clock; in the end all is well again."""
        names = [*self._faults, *(f"replies {fault.name.lower()}" for fault in Fault if fault is not Fault.NONE)]
        names += ["restarted"] + ["replica killed"] * kills
        while not self._outcome.faults or time.monotonic() < until:
            generator.shuffle(names)
            for name in names:
                self._outcome.faults[name] += 1
                await self._apply(name, generator, seconds_each)

    async def _apply(self, name: str, generator: random.Random, seconds: float) -> None:
        if name == "restarted":
            self._redis.stop()
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self._redis.start)
        elif name == "replica killed":
            await self._replicas.kill(0)
        elif name.startswith("replies "):
            self._proxy.fault = Fault[name.removeprefix("replies ").upper()]
            await asyncio.sleep(seconds)
            self._proxy.fault = Fault.NONE
        else:
            await asyncio.to_thread(self._faults[name], generator)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self._relax)

    def _flush(self, generator: random.Random) -> None:
        with self._redis.client() as client:
            client.flushall()

    def _fill(self, generator: random.Random) -> None:
        with self._redis.client() as client:
            client.config_set("maxmemory", "1")

    def _relax(self) -> None:
        with self._redis.client() as client:
            client.config_set("maxmemory", "0")

    def _evict(self, generator: random.Random) -> None:
        with self._redis.client() as client:
            for _ in range(20):
                if (name := client.randomkey()) is not None:
                    client.delete(name)

    def _flip(self, generator: random.Random) -> None:
        with self._redis.client() as client:
            for _ in range(20):
                name = client.randomkey()
                if name is not None and not name.startswith(b"internvl:lease"):
                    bit = generator.randrange(8 * client.strlen(name) or 1)
                    client.setbit(name, bit, 1 - client.getbit(name, bit))

    def _exchange(self, generator: random.Random) -> None:
        with self._redis.client() as client:
            for _ in range(10):
                one, other = client.randomkey(), client.randomkey()
                if one is not None and other is not None:
                    values = client.mget([one, other])
                    if None not in values:
                        client.mset({one: values[1], other: values[0]})


async def soak(
    *, seconds: float, replica_count: int, readers: int, pictures: int, kills: bool, seed: int = 0
) -> Outcome:
    """Runs it, then waits until all requests are answered right again."""
    outcome, generator = Outcome(), random.Random(seed)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        write_random_checkpoint(folder / "checkpoint")
        rows = _rows(folder / "checkpoint", [file_of(60 + 7 * index, 120, seed=index) for index in range(pictures)])
        redis = server()
        redis.start()
        stack.callback(redis.close)
        proxy = await stack.enter_async_context(FaultyProxy(redis.url.removeprefix("unix://")))
        url = f"redis://127.0.0.1:{proxy.port}"
        tight = ("--local-copy-bytes", str(_MEBIBYTE // 16), "--write-behind-bytes", str(_MEBIBYTE))
        replicas = Replicas(replica_count, folder / "checkpoint", url, folder, flags=tight)
        stack.push_async_callback(replicas.close)
        await asyncio.gather(*(replicas.start(index) for index in range(replica_count)))
        load = Readers(replicas, url, rows, outcome)
        stack.push_async_callback(load.close)

        warm = time.monotonic() + min(5.0, seconds / 4)
        await load.run(generator, lambda: time.monotonic() > warm)
        outcome.first_memory_bytes = replicas.memory_bytes()
        until = time.monotonic() + seconds
        chaos = Chaos(redis, proxy, replicas, outcome)
        async with asyncio.TaskGroup() as group:
            trouble = group.create_task(chaos.run(generator, until, seconds_each=min(1.0, seconds / 20), kills=kills))
            for index in range(readers):
                group.create_task(load.run(random.Random(seed + index), trouble.done))
        outcome.last_memory_bytes = replicas.memory_bytes()
        await _recovered(load, replicas, list(rows))
    return outcome


async def _recovered(load: Readers, replicas: Replicas, pictures: list[bytes]) -> None:
    """Returns when every picture is answered right in a row. Raises TimeoutError."""
    async with asyncio.timeout(2 * PATIENCE_SECONDS):
        left = list(pictures)
        while left:
            right = await load.one(left[-1], replicas.any_address(random.Random(len(left))))
            left = left[:-1] if right else list(pictures)


def _rows(checkpoint: Path, pictures: list[bytes]) -> dict[bytes, torch.Tensor]:
    """(R, D) of each picture, straight from the model."""
    config = ModelConfig.from_folder(checkpoint)
    cpu = torch.device("cpu")
    model = load_visual_encoder(
        Checkpoint.from_folder(checkpoint), config, device=cpu, dtype=torch.float32, progress=lambda *_: None
    )
    tiling = TilingOptions(config.max_tile_count, tile_size=TILE_SIZE)
    with torch.no_grad():
        return {
            picture: model(normalize(cut(decode_image(picture, _LIMITS), tiling))).reshape(-1, HIDDEN_SIZE)
            for picture in pictures
        }


def _resident_bytes(process_id: int) -> int:
    try:
        return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcome = asyncio.run(
        soak(
            seconds=options.seconds, replica_count=options.replicas, readers=options.readers,
            pictures=options.pictures, kills=True, seed=options.seed,
        )
    )  # fmt: skip
    print(f"right        {outcome.right} ({outcome.cached} found in the cache)")
    print(f"wrong        {outcome.wrong}")
    print(f"hanging      {outcome.hanging}")
    print(f"refused      {dict(outcome.refused)}")
    print(f"unexpected   {dict(outcome.unexpected)}")
    print(f"faults       {dict(outcome.faults)}")
    print(f"slowest      {outcome.slowest_seconds:.2f} s")
    print(
        f"memory       {outcome.first_memory_bytes / 1e6:.0f} MB before, {outcome.last_memory_bytes / 1e6:.0f} MB after"
    )
    sys.exit(0 if outcome.is_good else 1)


if __name__ == "__main__":
    main()
