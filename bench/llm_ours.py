"""`bench.llm`'s measurements of this engine: python -m bench.llm_ours CHECKPOINT DTYPE WEIGHTS SEED prints JSON."""

import asyncio
import json
import sys
import time
from pathlib import Path

from bench.language import (
    CHAT_PROMPT_TOKENS,
    CHAT_TOKENS,
    CHATS,
    DECODE_BATCHES,
    DECODE_PROMPT_TOKENS,
    DECODE_TOKENS,
    PREFILL_TOKENS,
    TURN_TOKENS,
    Prompts,
    steady_rate,
)
from llm_service.engine.engine import TorchEngine
from llm_service.engine.interface import EngineRequest, SamplingParameters
from llm_service.engine.scheduler import SchedulerLimits
from llm_service.model.options import ModelOptions, WeightsName
from llm_service.model.ranks import Ranks


async def measure(checkpoint: Path, dtype: str, weights: WeightsName, seed: int) -> dict[str, float]:
    """Rates in tokens per second, times in seconds."""
    options = ModelOptions(
        folder=checkpoint, device="cpu", dtype=dtype, weights=weights, attention="auto", page_size=0,
        cache_bytes=1 << 30, max_positions=0, threads=0,
    )  # fmt: skip
    loaded = options.load(Ranks(), lambda loaded, total: None)
    limits = SchedulerLimits(tokens_per_step=512, max_running=64, max_waiting=256)
    engine = TorchEngine(loaded.model, page_count=loaded.page_count, page_size=loaded.page_size, limits=limits)
    prompts, found = Prompts(seed), {}

    async def arrivals(prompt: list[int], count: int) -> list[float]:
        request = EngineRequest("bench", prompt, (), SamplingParameters(seed=0), count, frozenset())
        return [time.perf_counter() async for _ in engine.generate(request)]

    await arrivals(prompts.ids(20), 4)
    prompt = prompts.ids(PREFILL_TOKENS)
    start = time.perf_counter()
    found["prefill"] = PREFILL_TOKENS / ((await arrivals(prompt, 1))[0] - start)
    start = time.perf_counter()
    found["turn 2"] = (await arrivals(prompt + prompts.ids(TURN_TOKENS), 1))[0] - start
    for batch in DECODE_BATCHES:
        replies = [arrivals(prompts.ids(DECODE_PROMPT_TOKENS), DECODE_TOKENS) for _ in range(batch)]
        found[f"decode {batch}"] = steady_rate(await asyncio.gather(*replies))
    start = time.perf_counter()
    await asyncio.gather(*(arrivals(prompts.ids(CHAT_PROMPT_TOKENS), CHAT_TOKENS) for _ in range(CHATS)))
    found["chats"] = time.perf_counter() - start
    await engine.close()
    return found


if __name__ == "__main__":
    path, dtype, weights, seed = sys.argv[1:]
    print(json.dumps(asyncio.run(measure(Path(path), dtype, "int8" if weights == "int8" else "stored", int(seed)))))
