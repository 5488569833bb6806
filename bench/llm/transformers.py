"""`bench.llm`'s measurements of transformers' generate: python -m bench.llm.transformers CHECKPOINT DTYPE SEED.

Prints JSON. It keeps nothing between calls, so a second turn computes the whole conversation again.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

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
)


def measure(folder: Path, dtype: str, seed: int) -> dict[str, float]:
    """Rates in tokens per second, times in seconds."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    prompts, found = Prompts(seed), {}

    def seconds(batch: list[list[int]], count: int) -> float:
        ids = torch.tensor(batch)
        start = time.perf_counter()
        model.generate(
            ids, attention_mask=torch.ones_like(ids), min_new_tokens=count, max_new_tokens=count, do_sample=False,
            pad_token_id=0,
        )  # fmt: skip
        return time.perf_counter() - start

    seconds([prompts.ids(20)], 4)
    prompt = prompts.ids(PREFILL_TOKENS)
    found["prefill"] = PREFILL_TOKENS / seconds([prompt], 1)
    found["turn 2"] = seconds([prompt + prompts.ids(TURN_TOKENS)], 1)
    for size in DECODE_BATCHES:
        batch = [prompts.ids(DECODE_PROMPT_TOKENS) for _ in range(size)]
        first = seconds(batch, 1)
        found[f"decode {size}"] = size * (DECODE_TOKENS - 1) / (seconds(batch, DECODE_TOKENS) - first)
    found["chats"] = seconds([prompts.ids(CHAT_PROMPT_TOKENS) for _ in range(CHATS)], CHAT_TOKENS)
    return found


if __name__ == "__main__":
    path, dtype, seed = sys.argv[1:]
    with torch.inference_mode():
        print(json.dumps(measure(Path(path), dtype, int(seed))))
