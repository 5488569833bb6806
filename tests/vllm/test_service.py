"""The service on vLLM, compiled as it is by default, beside the service on the PyTorch engine: the same replies."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import psutil
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.options import DEMO_MODEL
from deploy.local.process import Child
from internvl.common.v1 import sampling_pb2, visual_pb2
from internvl.errors import EmbeddingInvalid
from internvl.llm.v1 import llm_pb2, llm_pb2_grpc
from llm_service.server import SERVICE
from shared.store.embedding_store import EmbeddingStore
from shared.store.redis_store import RedisStore
from tests.llm_service.test_service import TILES, put, reply
from tests.support.redis import RedisProcess

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(400)]
KEY, BAD_KEY, ROWS, WIDTH = "a" * 64, "b" * 64, 16, 128
"""Rows a tile and their width are the demo model's."""


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    server = RedisProcess()
    server.start()
    yield server
    server.close()


@asynccontextmanager
async def service(redis: RedisProcess, folder: Path, *flags: str) -> AsyncIterator[grpc.aio.Channel]:
    command = [sys.executable, "-m", "llm_service", "--model", str(DEMO_MODEL), "--redis-url", redis.url]
    child = await Child.start(
        "llm", [*command, "--port", "0", "--cache-bytes", str(1 << 24), *flags], log_folder=folder
    )
    watch = asyncio.create_task(child.watch())
    await asyncio.wait([watch, asyncio.create_task(child.ready())], return_when=asyncio.FIRST_COMPLETED)
    assert child.address, child.last_lines
    async with grpc.aio.insecure_channel(child.address) as channel:
        yield channel
    await child.stop(20.0)
    await asyncio.gather(watch, return_exceptions=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channels(
    redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[grpc.aio.Channel, grpc.aio.Channel]]:
    store = EmbeddingStore(RedisStore(redis.url), seconds=600)
    await put(store, KEY, rows=ROWS, width=WIDTH)
    await put(store, BAD_KEY, rows=ROWS, width=WIDTH, last=float("nan"))
    folder = tmp_path_factory.mktemp("llm")
    async with (
        service(redis, folder, "--dtype", "float32", "--threads", "1") as torch,
        service(redis, folder, "--dtype", "float32", "--engine", "vllm", "--page-size", "32") as vllm,
    ):
        yield torch, vllm
    await store.close()


def asking(key: str = "", *, increment: float = 1.0, resumed: tuple[int, ...] = ()) -> llm_pb2.GenerateRequest:
    """A question with drawn tokens, about an embedding if a key is given."""
    parts = [llm_pb2.Part(text="What do you see in this picture? Tell me all of it.")]
    if key:
        reference = visual_pb2.EmbeddingReference(key=key, tile_count=TILES, tokens_per_tile=ROWS)
        options = visual_pb2.VisualOptions(position_increment=increment)
        parts.insert(0, llm_pb2.Part(image=llm_pb2.VisualPart(embedding=reference, visual=options)))
    return llm_pb2.GenerateRequest(
        tenant="tenant",
        messages=[llm_pb2.Message(role=visual_pb2.ROLE_USER, parts=parts)],
        sampling=sampling_pb2.SamplingOptions(max_tokens=24, temperature=2.0, seed=5, presence_penalty=0.1),
        resume_token_ids=resumed,
    )


@pytest.mark.parametrize("increment", [0.0, 1.0, 0.25, 1 / 256])
async def test_either_engine_replies_the_same_and_goes_on_with_the_others_reply(
    channels: tuple[grpc.aio.Channel, grpc.aio.Channel], increment: float
) -> None:
    torch, vllm = (llm_pb2_grpc.LlmServiceStub(channel) for channel in channels)
    key = KEY if increment else ""
    whole = await reply(torch, asking(key, increment=increment or 1.0))
    assert len(whole) > 4
    assert await reply(vllm, asking(key, increment=increment or 1.0)) == whole
    for stub in (torch, vllm):
        assert await reply(stub, asking(key, increment=increment or 1.0, resumed=tuple(whole[:3]))) == whole[3:]


async def test_usage_counts_what_vllm_had_cached(channels: tuple[grpc.aio.Channel, grpc.aio.Channel]) -> None:
    _, vllm = (llm_pb2_grpc.LlmServiceStub(channel) for channel in channels)
    await reply(vllm, asking(KEY))
    usage = [event async for event in vllm.Generate(asking(KEY))][-1].finished.usage
    assert usage.visual_token_count == TILES * ROWS
    assert 0 < usage.cached_token_count < usage.prompt_token_count


async def test_a_bad_embedding_fails_its_request_alone(channels: tuple[grpc.aio.Channel, grpc.aio.Channel]) -> None:
    _, vllm = (llm_pb2_grpc.LlmServiceStub(channel) for channel in channels)
    alone = await reply(vllm, asking(KEY))
    steady, bad = await asyncio.gather(reply(vllm, asking(KEY)), reply(vllm, asking(BAD_KEY)), return_exceptions=True)
    assert steady == alone
    assert type(bad) is EmbeddingInvalid


async def test_health_follows_the_engine(channels: tuple[grpc.aio.Channel, grpc.aio.Channel]) -> None:
    """The last test of the module: its service is of no use afterwards."""
    health = health_pb2_grpc.HealthStub(channels[1])
    statuses = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))  # type: ignore[attr-defined]
    assert (await statuses.read()).status == health_pb2.HealthCheckResponse.SERVING
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # killing one takes others along
            if "EngineCore" in process.name() or "EngineCore" in " ".join(process.cmdline()):
                process.kill()
    async with asyncio.timeout(20):
        assert (await statuses.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    statuses.cancel()
