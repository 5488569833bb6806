"""In bfloat16 by the compiled kernels, what a request gets is the same to the last bit, whatever it shares steps with.

Its tokens in one chunk or in many, alone or in a full batch, decoded or resumed as part of a prompt, with a cache warm
or cold: log probabilities are equal, not close. That holds for every build of the kernels, and between builds that fuse
products.
"""

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import torch
from transformers import AutoModelForCausalLM

from llm_service.engine.interface import Engine, EngineRequest, SamplingParameters
from llm_service.engine.pytorch.engine import TorchEngine
from llm_service.engine.pytorch.scheduler import SchedulerLimits
from llm_service.model import hardware as hardware_module
from llm_service.model.attention.interface import PAGED_ATTENTION
from llm_service.model.hardware import Hardware
from llm_service.model.kernels import native as module
from llm_service.model.kernels.build import Build
from llm_service.model.language import LanguageModel
from tests.llm_service.engine.conformance import collect, decoder
from tests.support.kernels import BUILDS, FUSED, name_of
from tests.support.language import Prompt, prompt_of

SAMPLING = SamplingParameters(seed=7, temperature=1.3, top_logprob_count=5)


def model_on(build: Build) -> LanguageModel:
    """`decoder()` in bfloat16, also where the processor would rather have PyTorch's kernels."""
    config = copy.deepcopy(decoder().native.config)
    paged = AutoModelForCausalLM.from_config(config, attn_implementation=PAGED_ATTENTION).eval()
    paged.load_state_dict(decoder().native.state_dict())
    native = module.load_native(build)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hardware_module, "load_native", lambda: native)
        hardware = Hardware.choose(torch.device("cpu"), dtype="bfloat16", kernels="native")
    assert str(hardware) == (
        "bfloat16 on cpu: linear maps native, norms native, attention native in pages of 16 tokens"
    )
    return LanguageModel(paged.to(torch.bfloat16), hardware)


@pytest.fixture(scope="module", params=BUILDS, ids=name_of)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return model_on(request.param)


@asynccontextmanager
async def serving(model: LanguageModel, *, tokens_per_step: int) -> AsyncIterator[TorchEngine]:
    limits = SchedulerLimits(tokens_per_step=tokens_per_step, max_running=12, max_waiting=100)
    engine = TorchEngine(model, page_count=400, page_size=4, limits=limits)
    yield engine
    engine.check()
    await engine.close()


@pytest.fixture
async def engine(model: LanguageModel) -> AsyncIterator[TorchEngine]:
    async with serving(model, tokens_per_step=24) as engine:
        yield engine


@pytest.fixture
async def large_steps(model: LanguageModel) -> AsyncIterator[TorchEngine]:
    async with serving(model, tokens_per_step=400) as engine:
        yield engine


PROMPTS = [prompt_of([3 + 11 * index, (17 + 20 * index, 16), 5], seed=300 + index) for index in range(7)]


async def reply(engine: Engine, request: EngineRequest) -> list[tuple[object, ...]]:
    """Each token with its log probability and the five likeliest others."""
    return [(token.token_id, token.logprob, *token.alternatives) for token in (await collect(engine, request)).tokens]


def request_of(prompt: Prompt) -> EngineRequest:
    return prompt.request(12, sampling=SAMPLING)


async def test_alone_in_a_full_batch_and_in_chunks_of_any_size(engine: Engine, large_steps: Engine) -> None:
    together = await asyncio.gather(*(reply(engine, request_of(prompt)) for prompt in PROMPTS))
    for prompt, among_others in zip(PROMPTS, together, strict=True):
        assert await reply(large_steps, request_of(prompt)) == among_others  # in one chunk and alone


async def test_warm_or_cold(engine: Engine) -> None:
    cold = await reply(engine, request_of(PROMPTS[4]))
    assert await reply(engine, request_of(PROMPTS[4])) == cold


async def test_resumed_at_any_token(engine: Engine, large_steps: Engine) -> None:
    prompt = PROMPTS[3]
    whole = await reply(engine, request_of(prompt))
    ids = (await collect(engine, request_of(prompt))).token_ids
    for cut in range(1, 12):
        rest = prompt.request(12, sampling=SAMPLING, resume_ids=ids[:cut])
        assert await reply(large_steps, rest) == whole[cut:]


@pytest.mark.skipif(len(FUSED) == 1, reason="one build alone runs here that fuses products")
async def test_builds_that_fuse_products_reply_with_the_same_bits() -> None:
    prompt = PROMPTS[2]
    replies = []
    for index, build in enumerate(FUSED):
        async with serving(model_on(build), tokens_per_step=24 << index) as engine:
            replies.append(await reply(engine, request_of(prompt)))
    assert all(other == replies[0] for other in replies)
