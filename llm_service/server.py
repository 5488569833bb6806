"""Puts the LLM service together and runs it."""

import asyncio

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from llm_service.embeddings import EmbeddingLoader
from llm_service.engine.engine import TorchEngine
from llm_service.engine.interface import Engine
from llm_service.engine.scheduler import SchedulerLimits
from llm_service.generation import GenerationLimits, Generator
from llm_service.model.language import LanguageModel, page_bytes
from llm_service.model.loading import load_language_model
from llm_service.positions import increment_ticks
from llm_service.prompt import PromptBuilder
from llm_service.servicer import LlmServicer
from llm_service.settings import LlmSettings
from shared.checkpoint import Checkpoint, resolve_folder
from shared.embedding_store import EmbeddingStore
from shared.model_config import ModelConfig
from shared.model_info import model_info
from shared.pb.internvl.llm.v1 import llm_pb2_grpc
from shared.rpc import Server
from shared.service import run_service
from shared.telemetry import LoadingLog
from shared.value_store import RedisStore

SERVICE = "internvl.llm.v1.LlmService"


def main() -> None:
    """The command `internvl-llm`."""
    run_service(LlmSettings, serve)


async def serve(settings: LlmSettings) -> None:
    """Loads, serves, drains."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    server = Server(settings)
    checkpoint = Checkpoint.from_folder(resolve_folder(settings.model, settings.revision))
    config = ModelConfig.from_folder(checkpoint.folder)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(checkpoint.folder)
    prompts = PromptBuilder(tokenizer, config.system_message)
    model = _load_model(settings, checkpoint, config)
    engine = _start_engine(settings, model)
    store = EmbeddingStore(
        RedisStore(settings.redis_url.get_secret_value()),
        embedding_seconds=settings.embedding_seconds,
        media_seconds=settings.embedding_seconds,
    )
    embeddings = EmbeddingLoader(store, hidden_size=config.hidden_size, max_message_bytes=settings.max_message_bytes)
    limits = GenerationLimits(config.max_positions, settings.default_max_tokens)
    generator = Generator(engine, prompts, tokenizer.backend_tokenizer, embeddings, limits)
    servicer = LlmServicer(
        generator,
        tokenizer.backend_tokenizer,
        model_info(settings, checkpoint, config),
        default_increment=increment_ticks(settings.default_increment),
    )
    llm_pb2_grpc.add_LlmServiceServicer_to_server(servicer, server.grpc)
    health = asyncio.create_task(_unhealthy_when_failed(server, engine))
    try:
        await server.run(SERVICE)
    finally:
        health.cancel()
        await engine.close()
        await embeddings.close()
        await store.close()


async def _unhealthy_when_failed(server: Server, engine: Engine) -> None:
    """A dead engine is reported, so that whoever watches the health check replaces this process."""
    await engine.failed()
    await server.set_serving([SERVICE], serving=False)


def _load_model(settings: LlmSettings, checkpoint: Checkpoint, config: ModelConfig) -> LanguageModel:
    device = torch.device(settings.device_name(cuda=torch.cuda.is_available()))
    dtype = getattr(torch, settings.dtype_name(device.type))
    return load_language_model(checkpoint, config, device=device, dtype=dtype, progress=LoadingLog("language model"))


def _start_engine(settings: LlmSettings, model: LanguageModel) -> TorchEngine:
    page_count = settings.cache_bytes // page_bytes(model.config, settings.page_size, model.dtype)
    limits = SchedulerLimits(settings.tokens_per_step, settings.max_running, settings.max_waiting)
    return TorchEngine(model, page_count=page_count, page_size=settings.page_size, limits=limits)
