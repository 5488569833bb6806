"""Parallelism is vLLM's own; that our rotation and rows are right on each rank is shown on two CPU ranks."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from llm_service.engine.vllm.engine import VllmEngine
from tests.llm_service.engine.conformance import token_ids, wanted
from tests.support.language import prompt_of
from tests.vllm.support import nothing_held, serving

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


# The CPU build makes what stages hand on only when it compiles, which other tests leave out.
SPREADS: tuple[dict[str, Any], ...] = ({"tensor_parallel": 2}, {"pipeline_parallel": 2, "vllm_arguments": {}})


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=SPREADS, ids=["tensor", "pipeline"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[VllmEngine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # unless told so, it wants a NUMA node for each rank
        async with serving(50, **request.param) as engine:
            yield engine


async def test_two_ranks_reply_as_one(engine: VllmEngine) -> None:
    prompts = [prompt_of([5, (30, increment), 4], seed=1) for increment in (256, 64, 1)]
    for prompt in prompts:
        assert await token_ids(engine, prompt.request(10)) == wanted(prompt, 10)
    together = await asyncio.gather(*(token_ids(engine, prompt.request(10)) for prompt in prompts))
    assert together == [wanted(prompt, 10) for prompt in prompts]
    await nothing_held(engine)
