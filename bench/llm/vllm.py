"""`bench.llm`'s measurements of vLLM: PYTHON -m bench.llm.vllm FOLDER DTYPE SEED, by a Python that has vllm.

Prints JSON. Its prefix cache is on, as ours is.
"""

import asyncio
import json
import sys
import time
from typing import Any

from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.v1.engine.async_llm import AsyncLLM

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


async def measure(folder: str, dtype: str, seed: int) -> dict[str, float]:
    """Rates in tokens per second, times in seconds."""
    engine: Any = AsyncLLM.from_engine_args(
        AsyncEngineArgs(model=folder, dtype=dtype, skip_tokenizer_init=True, max_model_len=4096, max_num_seqs=64)
    )
    prompts, found, number = Prompts(seed), {}, 0

    async def arrivals(prompt: list[int], count: int) -> list[float]:
        nonlocal number
        number += 1
        sampling = SamplingParams(temperature=0, max_tokens=count, ignore_eos=True, detokenize=False)
        times: list[float] = []
        async for output in engine.generate({"prompt_token_ids": prompt}, sampling, str(number)):
            times += [time.perf_counter()] * (len(output.outputs[0].token_ids) - len(times))
        return times

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
    engine.shutdown()
    return found


if __name__ == "__main__":
    path, dtype, seed = sys.argv[1:]
    print(json.dumps(asyncio.run(measure(path, dtype, int(seed)))))
