"""`bench.llm`'s measurements of this service's engines, as its settings start them.

python -m bench.llm.ours CHECKPOINT DTYPE ENGINE WEIGHTS SEED prints JSON; ENGINE vllm wants a Python that has vllm.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

from bench.llm.language import (
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
from llm_service.engine.choose import running_engine
from llm_service.engine.interface import Engine, EngineRequest, SamplingParameters
from llm_service.settings import LlmSettings


async def measure(settings: LlmSettings, seed: int) -> dict[str, float]:
    """Rates in tokens per second, times in seconds."""
    async with running_engine(settings, Path(settings.model)) as engine:
        return await measure_engine(engine, seed)


async def measure_engine(engine: Engine, seed: int) -> dict[str, float]:
    """Figures of an engine that runs and has nothing else to do."""
    prompts, found = Prompts(seed), dict[str, float]()

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
    return found


if __name__ == "__main__":
    path, dtype, engine, weights, seed = sys.argv[1:]
    settings = LlmSettings.model_validate(
        {"model": path, "device": "cpu", "dtype": dtype, "engine": engine, "weights": weights}
    )
    print(json.dumps(asyncio.run(measure(settings, int(seed)))))
