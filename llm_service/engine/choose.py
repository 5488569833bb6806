"""Starts and closes the engine that the settings name. The only place that knows of more than one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import torch

from llm_service.engine.grammar import Grammars
from llm_service.engine.interface import Engine
from llm_service.engine.pytorch.engine import TorchEngine
from llm_service.engine.pytorch.model_thread import ModelThread
from llm_service.engine.pytorch.scheduler import SchedulerLimits
from llm_service.model.options import ModelOptions
from llm_service.model.ranks.start import start
from llm_service.settings import LlmSettings


@asynccontextmanager
async def running_engine(
    settings: LlmSettings, folder: Path, grammars: Grammars | None = None
) -> AsyncIterator[Engine]:
    """An engine over the checkpoint in `folder`; requests may have a grammar where there are `grammars`.

    Raises ValueError and its kinds if it cannot be served so.
    """
    running = _vllm_engine if settings.engine == "vllm" else _torch_engine
    async with running(settings, folder, grammars) as engine:
        yield engine


@asynccontextmanager
async def _torch_engine(settings: LlmSettings, folder: Path, grammars: Grammars | None) -> AsyncIterator[Engine]:
    device = settings.device_name(cuda=torch.cuda.is_available())
    options = ModelOptions(
        folder=folder,
        device=device,
        dtype=settings.dtype,
        weights=settings.weights,
        attention=settings.attention,
        page_size=settings.page_size,
        cache_bytes=settings.cache_bytes,
        max_positions=settings.max_positions,
        threads=settings.threads,
    )
    limits = SchedulerLimits(settings.tokens_per_step, settings.max_running, settings.max_waiting)
    thread = ModelThread()
    loaded = await asyncio.wrap_future(
        thread.submit(lambda: start(options, settings.tensor_parallel, settings.log_level))
    )
    engine = TorchEngine(
        loaded.model,
        page_count=loaded.page_count,
        page_size=loaded.page_size,
        limits=limits,
        step_seconds=settings.step_seconds,
        thread=thread,
        grammars=grammars,
    )
    try:
        yield engine
    finally:
        await engine.close()
        loaded.model.ranks.close()


@asynccontextmanager
async def _vllm_engine(settings: LlmSettings, folder: Path, grammars: Grammars | None) -> AsyncIterator[Engine]:
    from llm_service.engine.vllm.environment import device_type, prepare

    prepare()
    from llm_service.engine.vllm.engine import VllmEngine  # vLLM is optional, and reads its environment when imported
    from llm_service.engine.vllm.options import VllmOptions

    options = VllmOptions(
        folder=folder,
        dtype=settings.dtype_name(device_type(settings.device)),
        tensor_parallel=settings.tensor_parallel,
        pipeline_parallel=settings.pipeline_parallel,
        page_size=settings.page_size,
        cache_bytes=settings.cache_bytes,
        tokens_per_step=settings.tokens_per_step,
        max_running=settings.max_running,
        max_waiting=settings.max_waiting,
        max_positions=settings.max_positions,
        max_request_tokens=settings.max_request_tokens,
        step_seconds=settings.step_seconds,
        vllm_arguments=settings.vllm_arguments,
    )
    engine = await VllmEngine.start(options, grammars)
    try:
        yield engine
    finally:
        await engine.close()
