"""Tensor parallelism is vLLM's own; that our rotation and rows are right on each rank is shown on two CPU ranks."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from llm_service.engine.vllm.engine import VllmEngine
from tests.llm_service.engine.conformance import token_ids, wanted
from tests.support.language import prompt_of
from tests.vllm.support import nothing_held, serving

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[VllmEngine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # unless told so, it wants a NUMA node for each rank
        async with serving(50, tensor_parallel=2) as engine:
            yield engine


@pytest.mark.parametrize("increment", [256, 64, 1])
async def test_two_ranks_reply_as_one(engine: VllmEngine, increment: int) -> None:
    prompt = prompt_of([5, (30, increment), 4], seed=1)
    assert await token_ids(engine, prompt.request(10)) == wanted(prompt, 10)
    await nothing_held(engine)
