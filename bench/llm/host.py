"""The host's part of a decoding step, while a device would wait: python -m bench.llm.host

Laying the step out, and choosing tokens with a repetition penalty, for requests of 2,000 prompt tokens and 200 of the
reply. Milliseconds of processor time of one thread, the best of many: other work on the machine matters little.
"""

import time
from collections.abc import Callable
from functools import partial

import torch

from llm_service.engine.interface import EngineRequest, SamplingParameters
from llm_service.engine.pytorch.request import Request, pages_for
from llm_service.engine.pytorch.sampler import SamplingRow, sample
from llm_service.engine.pytorch.scheduler import Chunk
from llm_service.engine.pytorch.step_input import step_input

PROMPT, REPLY, VOCABULARY, PAGE_SIZE = 2000, 200, 5000, 16
ROUNDS = 300


def main() -> None:
    torch.set_num_threads(1)
    print("| requests | step input, ms | penalties, ms |")
    print("|---|---|---|")
    for count in (1, 8, 64):
        chunks = [decoding(index) for index in range(count)]
        laid_out = best_milliseconds(partial(step_input, chunks, PAGE_SIZE))
        print(f"| {count} | {laid_out:.2f} | {penalty_milliseconds([chunk.request for chunk in chunks]):.2f} |")


def decoding(index: int) -> Chunk:
    """The next token of a request."""
    generator = torch.Generator().manual_seed(index)
    ids = torch.randint(VOCABULARY, (PROMPT + REPLY,), generator=generator).tolist()
    sampling = SamplingParameters(seed=index, repetition_penalty=1.1)
    spec = EngineRequest("tenant", ids[:PROMPT], (), sampling, 2 * REPLY, frozenset(), resume_ids=ids[PROMPT:])
    request = Request(spec, PAGE_SIZE)
    page_count = pages_for(PROMPT + REPLY, PAGE_SIZE)
    request.pages.extend(range(index * page_count, (index + 1) * page_count))
    request.computed_count = PROMPT + REPLY - 1
    return Chunk(request, 1)


def penalty_milliseconds(requests: list[Request]) -> float:
    """Returns what penalties add to the choice of tokens."""
    logits = torch.randn(len(requests), VOCABULARY)
    rows = [SamplingRow(each.spec.sampling, REPLY, each.history) for each in requests]
    plain = [SamplingRow(each.spec.sampling, REPLY, None) for each in requests]
    with_penalties, without = (best_milliseconds(partial(sample, logits, each)) for each in (rows, plain))
    return with_penalties - without


def best_milliseconds(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(ROUNDS):
        start = time.thread_time()
        work()
        seconds.append(time.thread_time() - start)
    return 1000 * min(seconds)


if __name__ == "__main__":
    main()
