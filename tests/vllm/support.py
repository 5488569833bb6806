"""vLLM engines for tests. One takes about half a minute to start, so it lives as long as its module."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from llm_service.engine.vllm.environment import prepare

prepare()

from llm_service.engine.grammar import Grammars  # noqa: E402
from llm_service.engine.vllm.engine import VllmEngine  # noqa: E402
from llm_service.engine.vllm.options import VllmOptions  # noqa: E402
from tests.llm_service.engine.conformance import write_decoder  # noqa: E402
from tests.support.checkpoints import Layout  # noqa: E402
from tests.support.tokenizer import core, end_id  # noqa: E402

PAGE_SIZE = 32
"""vLLM's smallest on a CPU."""
_PAGE_BYTES = PAGE_SIZE * 2 * 2 * 2 * 32 * 4
"""Two layers, keys and values, two heads of 32, float32."""


def options(folder: Path, page_count: int) -> VllmOptions:
    """With the limits of the conformance suite. Eager: on a tiny model compilation is all there would be to see."""
    return VllmOptions(
        folder=folder, dtype="float32", tensor_parallel=1, pipeline_parallel=1, page_size=PAGE_SIZE,
        cache_bytes=(page_count + 1) * _PAGE_BYTES, tokens_per_step=24, max_running=12, max_waiting=100,
        step_seconds=60.0, max_positions=0, max_request_tokens=0, vllm_arguments={"enforce_eager": True},
    )  # fmt: skip


@asynccontextmanager
async def serving(page_count: int, layout: Layout = "original", **changes: Any) -> AsyncIterator[VllmEngine]:
    """An engine over the suite's decoder."""
    with tempfile.TemporaryDirectory() as folder:
        write_decoder(Path(folder), layout)
        grammars = Grammars(core(), end_id())
        engine = VllmEngine(replace(options(Path(folder), page_count), **changes), grammars)
        yield engine
        await engine.close()
        grammars.close()


async def nothing_held(engine: VllmEngine) -> None:
    """Within a second, by vLLM's own account: it empties its cache only when no page is held."""
    for _ in range(100):
        if await engine.forget_cached():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"pages leaked: {engine.status()}")
