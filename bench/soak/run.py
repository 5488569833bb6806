"""The soak: load on vision replicas and their readers while Redis is made to fail in every way.

    python -m bench.soak --seconds 600

Readers look at images, read the rows as the LLM service does, encode again once when they are gone, as the gateway
does, and compare them with the model's own. Counted are wrong rows, requests that did not end, and the memory of the
replicas. tests/integration/test_soak.py is the same for some seconds.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import torch

from bench.soak.chaos import Chaos
from bench.soak.readers import HIDDEN_SIZE, PATIENCE_SECONDS, Outcome, Readers
from bench.soak.replicas import Replicas
from shared.checkpoint.config import ModelConfig
from shared.checkpoint.weights import Checkpoint
from tests.support.checkpoints import TILE_SIZE, write_random_checkpoint
from tests.support.faulty_proxy import FaultyProxy
from tests.support.pictures import file_of
from tests.support.redis import server
from vision_service.image.decoding import ImageLimits, decode_image
from vision_service.model.loading import load_visual_encoder
from vision_service.pixels import normalize
from vision_service.tiles import TilingOptions, cut

_MEBIBYTE = 1 << 20
_LIMITS = ImageLimits(1 << 24, 1 << 24, 1 << 14)


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
    """Returns when every image is answered right in a row. Raises TimeoutError."""
    async with asyncio.timeout(2 * PATIENCE_SECONDS):
        left = list(pictures)
        while left:
            right = await load.one(left[-1], replicas.any_address(random.Random(len(left))))
            left = left[:-1] if right else list(pictures)


def _rows(checkpoint: Path, pictures: list[bytes]) -> dict[bytes, torch.Tensor]:
    """(R, D) of each image, straight from the model."""
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
