"""The endpoint over real HTTP in front of fake services, and OpenAI's own client."""

from collections.abc import AsyncIterator

import httpx
import openai
import pytest

from tests.support.fakes import FakeLlm, FakeVision, serving
from tests.support.gateway import Served, gateway_settings, gateway_with

MODEL = "InternVL3-test"


@pytest.fixture
async def served(vision: FakeVision, llm: FakeLlm) -> AsyncIterator[Served]:
    async with (
        serving(vision) as vision_address,
        serving(llm) as llm_address,
        gateway_with(gateway_settings(vision_address, llm_address, http_port=0)) as served,
    ):
        yield served


@pytest.fixture
async def http(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{served.http}", timeout=10) as client:
        yield client


@pytest.fixture
async def openai_client(served: Served) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"http://{served.http}/v1", api_key="none", max_retries=0) as client:
        yield client
