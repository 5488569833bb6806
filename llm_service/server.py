"""Puts the LLM service together and runs it."""

import asyncio

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from llm_service.embeddings import EmbeddingLoader
from llm_service.engine.engine import TorchEngine
from llm_service.engine.interface import Engine
from llm_service.engine.scheduler import SchedulerLimits
from llm_service.generation import Generator
from llm_service.metrics import EngineCollector
from llm_service.model.followers import Followers
from llm_service.model.options import ModelOptions
from llm_service.positions import increment_ticks
from llm_service.prompt import PromptBuilder
from llm_service.servicer import LlmServicer
from llm_service.settings import LlmSettings
from llm_service.window import Window
from shared.checkpoint import Checkpoint, resolve_folder
from shared.embedding_store import EmbeddingStore
from shared.metrics import collected
from shared.model_config import ModelConfig
from shared.model_info import model_info
from shared.pb.internvl.llm.v1 import llm_pb2_grpc
from shared.redis_store import RedisStore
from shared.rpc import Server
from shared.service import run_service

SERVICE = "internvl.llm.v1.LlmService"


def main() -> None:
    """The command `internvl-llm`."""
    run_service(LlmSettings, serve)


async def serve(settings: LlmSettings) -> None:
    """Loads, serves, drains."""
    server = Server(settings)
    checkpoint = Checkpoint.from_folder(resolve_folder(settings.model, settings.revision))
    config = ModelConfig.from_folder(checkpoint.folder)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(checkpoint.folder)
    prompts = PromptBuilder(tokenizer, config.system_message)
    followers, engine = _start_engine(settings, checkpoint)
    redis = RedisStore(settings.redis_url.get_secret_value())
    store = EmbeddingStore(redis, seconds=settings.embedding_seconds)
    embeddings = EmbeddingLoader(
        store,
        hidden_size=config.hidden_size,
        max_message_bytes=settings.max_message_bytes,
        tls=settings.peer_tls(),
    )
    window = Window(config.max_positions, settings.default_max_tokens, settings.max_positions)
    generator = Generator(engine, prompts, tokenizer.backend_tokenizer, embeddings, window)
    servicer = LlmServicer(
        generator,
        tokenizer.backend_tokenizer,
        model_info(settings, checkpoint, config),
        default_increment=increment_ticks(settings.default_increment),
    )
    llm_pb2_grpc.add_LlmServiceServicer_to_server(servicer, server.grpc)
    health = asyncio.create_task(_unhealthy_when_failed(server, engine))
    try:
        with collected(EngineCollector(engine.status)):
            await server.run(SERVICE)
    finally:
        health.cancel()
        await engine.close()
        followers.close()
        await embeddings.close()
        await store.close()


async def _unhealthy_when_failed(server: Server, engine: Engine) -> None:
    """A dead engine is reported, so that whoever watches the health check replaces this process."""
    await engine.failed()
    await server.set_serving([SERVICE], serving=False)


def _start_engine(settings: LlmSettings, checkpoint: Checkpoint) -> tuple[Followers, TorchEngine]:
    device = settings.device_name(cuda=torch.cuda.is_available())
    options = ModelOptions(
        folder=checkpoint.folder,
        device=device,
        dtype=settings.dtype_name(device),
        weights=settings.weights,
        attention=settings.attention,
        page_size=settings.page_size,
        cache_bytes=settings.cache_bytes,
        max_positions=settings.max_positions,
        threads=settings.threads,
    )
    limits = SchedulerLimits(settings.tokens_per_step, settings.max_running, settings.max_waiting)
    followers, loaded = Followers.load(options, settings.tensor_parallel, settings.log_level)
    engine = TorchEngine(
        loaded.model, page_count=loaded.page_count, page_size=loaded.page_size, limits=limits, followers=followers
    )
    return followers, engine
