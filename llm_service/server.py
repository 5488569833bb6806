"""Puts the LLM service together and runs it."""

import asyncio
from contextlib import AsyncExitStack

from internvl.llm.v1 import llm_pb2_grpc
from llm_service.embeddings import EmbeddingLoader
from llm_service.engine.choose import running_engine
from llm_service.engine.grammar import Grammars
from llm_service.engine.interface import Engine
from llm_service.generation import Generator
from llm_service.metrics import EngineCollector
from llm_service.positions import increment_ticks
from llm_service.prompt import PromptBuilder
from llm_service.servicer import LlmServicer
from llm_service.settings import LlmSettings
from llm_service.window import Window
from shared.checkpoint.config import ModelConfig
from shared.checkpoint.info import model_info
from shared.checkpoint.tokenizer import load_tokenizer
from shared.checkpoint.weights import Checkpoint, resolve_folder
from shared.serving.metrics import collected
from shared.serving.rpc import Server
from shared.serving.service import run_service
from shared.store.embedding_store import EmbeddingStore
from shared.store.redis_store import RedisStore

SERVICE = "internvl.llm.v1.LlmService"


def main() -> None:
    """Runs the service until it is stopped."""
    run_service(LlmSettings, serve)


async def serve(settings: LlmSettings) -> None:
    """Loads, serves, drains."""
    server = Server(settings)
    checkpoint = Checkpoint.from_folder(resolve_folder(settings.model, settings.revision))
    config = ModelConfig.from_folder(checkpoint.folder)
    tokenizer = load_tokenizer(checkpoint.folder)
    prompts = PromptBuilder(tokenizer, config.system_message)
    window = Window(config.max_positions, settings.default_max_tokens, settings.max_positions)
    increment = config.position_increment if settings.default_increment is None else settings.default_increment
    async with AsyncExitStack() as exit_stack:
        redis = RedisStore(settings.redis_url.get_secret_value())
        store = EmbeddingStore(redis, seconds=settings.embedding_seconds)
        exit_stack.push_async_callback(store.close)
        embeddings = EmbeddingLoader(
            store,
            hidden_size=config.hidden_size,
            max_message_bytes=settings.max_message_bytes,
            tls=settings.peer_tls(),
            holder_seconds=settings.holder_seconds,
            keepalive=settings.keepalive,
        )
        exit_stack.push_async_callback(embeddings.close)
        grammars = Grammars(tokenizer, prompts.stop_token_id)
        exit_stack.callback(grammars.close)
        engine = await exit_stack.enter_async_context(running_engine(settings, checkpoint.folder, grammars))
        generator = Generator(engine, prompts, tokenizer, embeddings, window, grammars)
        servicer = LlmServicer(
            generator,
            tokenizer,
            model_info(settings, checkpoint, config),
            default_increment=increment_ticks(increment),
        )
        llm_pb2_grpc.add_LlmServiceServicer_to_server(servicer, server.grpc)
        watching = asyncio.create_task(_give_up_when_failed(server, engine))
        exit_stack.callback(watching.cancel)
        with collected(EngineCollector(engine.status)):
            await server.run(SERVICE)


async def _give_up_when_failed(server: Server, engine: Engine) -> None:
    await server.give_up([SERVICE], await engine.failed(), engine.close)
