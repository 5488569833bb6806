"""The engine over vLLM keeps every promise of an Engine."""

from collections.abc import AsyncIterator
from typing import ClassVar

import pytest
import pytest_asyncio

from llm_service.engine.vllm.engine import VllmEngine
from tests.llm_service.engine.conformance import EngineConformance
from tests.vllm.support import PAGE_SIZE, nothing_held, serving

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def large() -> AsyncIterator[VllmEngine]:
    async with serving(50) as engine:
        yield engine


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def small() -> AsyncIterator[VllmEngine]:
    async with serving(3) as engine:
        yield engine


class TestVllmEngine(EngineConformance):
    """All of the conformance suite."""

    page_size: ClassVar[int] = PAGE_SIZE
    knows_its_cache: ClassVar[bool] = False

    @pytest_asyncio.fixture(loop_scope="module")
    async def engine(self, large: VllmEngine) -> AsyncIterator[VllmEngine]:  # type: ignore[override]
        """Begins with an empty cache, and must leave nothing held."""
        await nothing_held(large)
        yield large
        await nothing_held(large)

    @pytest_asyncio.fixture(loop_scope="module")
    async def small_engine(self, small: VllmEngine) -> AsyncIterator[VllmEngine]:  # type: ignore[override]
        await nothing_held(small)
        yield small
        await nothing_held(small)
