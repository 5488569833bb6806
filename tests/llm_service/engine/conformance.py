"""Promises of every Engine. Subclass with an `engine` fixture whose model is `decoder()`.

Greedy tokens are compared with transformers run without a cache, on the same random weights, in float32.
"""

import asyncio
import json
import math
import re
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import save_file

from internvl.errors import EmbeddingInvalid, EmbeddingNotFound, GrammarInvalid, PromptTooLong
from llm_service.engine.interface import (
    Admitted,
    Engine,
    EngineRequest,
    FinishReason,
    GeneratedToken,
    SamplingParameters,
    VisualInput,
)
from llm_service.positions import INCREMENTS, VisualSpan
from tests.support.checkpoints import Layout, write_random_checkpoint
from tests.support.language import Prompt, TinyDecoder, native_samples, native_tokens, prompt_of, tiny_decoder
from tests.support.tokenizer import core, end_id

GRAMMAR = "start: /(hello|[a-f]{3}){4}/"


@cache
def decoder() -> TinyDecoder:
    return tiny_decoder()


def write_decoder(folder: Path, layout: Layout = "original") -> None:
    """`decoder()` as a checkpoint."""
    write_random_checkpoint(folder, layout=layout)
    native = decoder().native
    config = json.loads((folder / "config.json").read_text())
    name = "llm_config" if layout == "original" else "text_config"
    config[name] = {**native.config.to_dict(), "architectures": ["Qwen2ForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    prefix = "language_model." if layout == "original" else "model.language_"
    tensors = {f"{prefix}{name}": tensor.contiguous() for name, tensor in native.state_dict().items()}
    if layout == "hf":
        tensors["lm_head.weight"] = tensors.pop("model.language_lm_head.weight")
    save_file(tensors, folder / "model.safetensors")


def wanted(prompt: Prompt, count: int) -> list[int]:
    return native_tokens(decoder().native, prompt, count)


@dataclass(frozen=True)
class Collected:
    """A whole reply."""

    admitted: Admitted
    tokens: list[GeneratedToken]

    @property
    def token_ids(self) -> list[int]:
        return [token.token_id for token in self.tokens]


async def collect(engine: Engine, request: EngineRequest) -> Collected:
    """Fails unless there is one Admitted, and it comes first."""
    admitted, *tokens = [event async for event in engine.generate(request)]
    assert isinstance(admitted, Admitted)
    assert not any(isinstance(token, Admitted) for token in tokens)
    return Collected(admitted, [token for token in tokens if isinstance(token, GeneratedToken)])


async def token_ids(engine: Engine, request: EngineRequest) -> list[int]:
    return (await collect(engine, request)).token_ids


async def idle(engine: Engine) -> None:
    """Waits until the engine holds nothing, which it must within a step or two."""
    for _ in range(200):
        status = engine.status()
        if not (status.running_count or status.waiting_count or status.used_page_count):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"the engine still holds {engine.status()}")


def recording(request: EngineRequest) -> tuple[EngineRequest, list[tuple[int, int]]]:
    """The request about one picture, and where the rows it loads are noted."""
    (visual,) = request.visuals
    loaded: list[tuple[int, int]] = []

    async def load(first: int, last: int) -> torch.Tensor:
        loaded.append((first, last))
        return await visual.load(first, last)

    return replace(request, visuals=(replace(visual, load=load),)), loaded


class EngineConformance:
    """Named promises. Engines have steps of at most 24 tokens, and what the properties below say."""

    page_size: ClassVar[int] = 4
    """Tokens of a page; what the prefix cache holds ends with one."""
    knows_its_cache: ClassVar[bool] = True
    """Whether it knows before it loads which rows its cache covers. If not, it loads each picture whole, once."""

    def cached(self, token_count: int) -> int:
        """How many of so many tokens the prefix cache covers at best."""
        return token_count // self.page_size * self.page_size

    @pytest.fixture
    def engine(self) -> Any:
        """Pages for 1,600 tokens."""
        raise NotImplementedError

    @pytest.fixture
    def small_engine(self) -> Any:
        """Pages for 80 tokens, or a few more where pages are large."""
        raise NotImplementedError

    @pytest.mark.parametrize("increment", INCREMENTS)
    async def test_greedy_tokens_are_transformers(self, engine: Engine, increment: int) -> None:
        prompt = prompt_of([5, (40, increment), 3, (9, increment), 6], seed=increment)
        assert await token_ids(engine, prompt.request(10)) == wanted(prompt, 10)

    async def test_text_alone(self, engine: Engine) -> None:
        prompt = prompt_of([50], seed=3)
        assert await token_ids(engine, prompt.request(6)) == wanted(prompt, 6)

    async def test_a_full_batch_of_mixed_increments_changes_nobody(self, engine: Engine) -> None:
        prompts = [prompt_of([1 + index, (7 + 5 * index, INCREMENTS[index]), 4], seed=index) for index in range(9)]
        together = await asyncio.gather(*(token_ids(engine, prompt.request(8)) for prompt in prompts))
        assert together == [wanted(prompt, 8) for prompt in prompts]

    @pytest.mark.parametrize("text_count", range(1, 9))
    async def test_chunk_and_page_borders_inside_an_image(self, engine: Engine, text_count: int) -> None:
        prompt = prompt_of([text_count, (60, 16), 3], seed=50 + text_count)
        assert await token_ids(engine, prompt.request(4)) == wanted(prompt, 4)

    async def test_a_warm_prefix_gives_the_same_tokens(self, engine: Engine) -> None:
        prompt = prompt_of([6, (33, 64), 5], seed=9)
        first = await collect(engine, prompt.request(6))
        again = await collect(engine, prompt.request(6))
        assert again.token_ids == first.token_ids == wanted(prompt, 6)
        assert first.admitted.cached_token_count == 0
        assert again.admitted.cached_token_count == self.cached(len(prompt.token_ids) - 1)

    async def test_the_next_turn_reuses_the_last_and_needs_no_rows_of_its_picture(self, engine: Engine) -> None:
        prompt = prompt_of([6, (60, 64), 5], seed=11)
        reply = await token_ids(engine, prompt.request(6))
        longer = Prompt([*prompt.token_ids, *reply, 1, 2, 3], prompt.pictures)
        request, loaded = recording(longer.request(5))
        longer_reply = await collect(engine, request)
        assert longer_reply.token_ids == wanted(longer, 5)
        computed = len(prompt.token_ids) + 5  # the reply's last is not
        assert longer_reply.admitted.cached_token_count == self.cached(computed)
        assert loaded == ([] if self.knows_its_cache else [(0, 60)])

    async def test_only_the_rows_that_the_cache_lacks_are_loaded(self, engine: Engine) -> None:
        short = prompt_of([6, (63, 64)], seed=12)
        await collect(engine, short.request(1))
        longer = Prompt([*short.token_ids, 5, 6], short.pictures)
        request, loaded = recording(longer.request(5))
        assert await token_ids(engine, request) == wanted(longer, 5)
        assert loaded == [(self.cached(69) - 6 if self.knows_its_cache else 0, 63)]

    async def test_another_increment_or_picture_or_tenant_shares_nothing(self, engine: Engine) -> None:
        prompt = prompt_of([4, (24, 256), 5], seed=21)
        await collect(engine, prompt.request(4))
        (picture,) = prompt.pictures
        other_increment = Prompt(prompt.token_ids, (type(picture)(VisualSpan(4, 24, 128), picture.rows, picture.key),))
        other_picture = Prompt(prompt.token_ids, (type(picture)(picture.span, -picture.rows, "other"),))
        for prompt_, tenant in ((other_increment, "tenant"), (other_picture, "tenant"), (prompt, "other tenant")):
            reply = await collect(engine, prompt_.request(4, tenant=tenant))
            assert reply.admitted.cached_token_count <= 4
            assert reply.token_ids == wanted(prompt_, 4)

    async def test_dynamic_ntk_is_the_requests_own(self, engine: Engine) -> None:
        """Two lengths and the trained rotation in one batch: each as transformers gives it alone, and no KV shared."""
        prompt = prompt_of([60], seed=13)
        lengths = (0, 40_000, 30_000_000)
        requests = [replace(prompt.request(6), ntk_length=length) for length in lengths]
        results = await asyncio.gather(*(collect(engine, request) for request in requests))
        assert [reply.admitted.cached_token_count for reply in results] == [0, 0, 0]
        expected = [native_tokens(decoder().native, prompt, 6, ntk_length=length) for length in lengths]
        assert [reply.token_ids for reply in results] == expected
        assert expected[0] != expected[2]

    async def test_under_pressure_everybody_still_gets_the_right_tokens(self, small_engine: Engine) -> None:
        """Six sequences of 11 pages each on 20 pages."""
        prompts = [prompt_of([3, (20, INCREMENTS[index]), 4], seed=100 + index) for index in range(6)]
        together = await asyncio.gather(*(token_ids(small_engine, prompt.request(15)) for prompt in prompts))
        assert together == [wanted(prompt, 15) for prompt in prompts]
        await idle(small_engine)

    async def test_cancelling_at_any_moment_frees_everything_and_disturbs_nobody(self, engine: Engine) -> None:
        steady = prompt_of([5, (30, 32), 4], seed=31)

        async def impatient(index: int) -> None:
            prompt = prompt_of([2, (index % 30 + 1, 8), 30], seed=200 + index)
            async with aclosing(engine.generate(prompt.request(50))) as tokens:
                async for _ in tokens:
                    if index % 3 == 0:
                        return
                    await asyncio.sleep(index % 5 / 500)

        storm = [asyncio.create_task(impatient(index)) for index in range(40)]
        running = asyncio.create_task(token_ids(engine, steady.request(20)))
        for index, task in enumerate(storm):
            await asyncio.sleep(0.002)
            if index % 3:
                task.cancel()
        await asyncio.gather(*storm, return_exceptions=True)
        assert await running == wanted(steady, 20)
        await idle(engine)

    @pytest.mark.parametrize("error", [EmbeddingNotFound.of(["k"]), EmbeddingInvalid("bad")], ids=["gone", "bad"])
    async def test_a_picture_that_cannot_be_loaded_fails_its_request_alone(
        self, engine: Engine, error: Exception
    ) -> None:
        async def fail(first: int, last: int) -> torch.Tensor:
            await asyncio.sleep(0)
            raise error

        good = prompt_of([5, (30, 32), 4], seed=41)
        bad = EngineRequest(**{**vars(good.request()), "visuals": (VisualInput(VisualSpan(5, 30, 32), "k", 0, fail),)})
        results = await asyncio.gather(
            token_ids(engine, bad), token_ids(engine, good.request(5)), return_exceptions=True
        )
        assert type(results[0]) is type(error)
        assert results[1] == wanted(good, 5)
        await idle(engine)

    async def test_a_request_is_told_how_long_it_waited(self, engine: Engine) -> None:
        """More requests than a step takes: the last cannot have begun at once."""
        replies = await asyncio.gather(*(collect(engine, prompt_of([9], seed=seed).request(4)) for seed in range(30)))
        assert replies[-1].admitted.queue_seconds > 0

    async def test_ends_at_a_stop_token_which_is_reported(self, engine: Engine) -> None:
        prompt = prompt_of([20], seed=51)
        expected = wanted(prompt, 6)
        stop = expected[3]
        reply = await collect(engine, prompt.request(6, stop_token_ids=[stop]))
        assert reply.token_ids == expected[: expected.index(stop) + 1]
        assert [token.finish for token in reply.tokens][-1] is FinishReason.STOP
        assert all(token.finish is None for token in reply.tokens[:-1])

    async def test_ends_at_max_tokens(self, engine: Engine) -> None:
        reply = await collect(engine, prompt_of([20], seed=52).request(3))
        assert [token.finish for token in reply.tokens] == [None, None, FinishReason.LENGTH]

    @pytest.mark.parametrize("temperature", [0.0, 1.5])
    async def test_a_reply_cut_anywhere_goes_on_the_same(self, engine: Engine, temperature: float) -> None:
        prompt = prompt_of([8, (20, 16), 4], seed=61)
        sampling = SamplingParameters(seed=5, temperature=temperature, presence_penalty=0.5)
        whole = await token_ids(engine, prompt.request(12, sampling=sampling))
        for cut in range(1, 12):
            rest = await token_ids(engine, prompt.request(12, sampling=sampling, resume_ids=whole[:cut]))
            assert whole[:cut] + rest == whole

    async def test_drawn_tokens_and_their_log_probabilities_are_the_samplers(self, engine: Engine) -> None:
        """So any engine can resume a reply that another began."""
        prompt = prompt_of([3, (12, 64), 9], seed=81)
        drawn = SamplingParameters(
            seed=2**64 - 1, temperature=1.3, top_p=0.9, top_k=40, min_p=0.01, repetition_penalty=1.2,
            presence_penalty=0.3, frequency_penalty=0.2, top_logprob_count=3,
        )  # fmt: skip
        logged = replace(SamplingParameters(seed=0), top_logprob_count=0)
        for sampling in (drawn, logged):
            expected = native_samples(decoder().native, prompt, 8, sampling)
            reply = await collect(engine, prompt.request(8, sampling=sampling))
            assert reply.token_ids == [token.token_id for token in expected]
            for token, other in zip(reply.tokens, expected, strict=True):
                thoughts, others = ([each.logprob, *each.alternatives] for each in (token, other))
                assert [thought.token_id for thought in thoughts if thought] == [
                    thought.token_id for thought in others if thought
                ]
                assert [thought.logprob for thought in thoughts if thought] == pytest.approx(
                    [thought.logprob for thought in others if thought], abs=1e-4
                )

    async def test_a_reply_is_held_to_its_grammar_and_resumed_inside_it(self, engine: Engine) -> None:
        """Beside one that is free, which stays as it is. The tokenizer has fewer tokens than the model logits."""
        prompt = prompt_of([20], seed=91)
        sampling = SamplingParameters(seed=5, temperature=1.5, grammar=GRAMMAR)
        request = prompt.request(30, sampling=sampling, stop_token_ids=[end_id()])
        held, free = await asyncio.gather(token_ids(engine, request), token_ids(engine, prompt.request(6)))
        assert free == wanted(prompt, 6)
        assert re.fullmatch("(hello|[a-f]{3}){4}", core().decode(held[:-1]))
        assert held[-1] == end_id()
        for cut in range(1, len(held)):
            rest = await token_ids(engine, replace(request, resume_ids=held[:cut]))
            assert held[:cut] + rest == held

    async def test_greedy_replies_are_held_too(self, engine: Engine) -> None:
        prompts = [prompt_of([9 + index], seed=index) for index in range(8)]
        sampling = SamplingParameters(seed=0, grammar=GRAMMAR, top_logprob_count=1)
        replies = await asyncio.gather(
            *(collect(engine, each.request(30, sampling=sampling, stop_token_ids=[end_id()])) for each in prompts)
        )
        for collected in replies:
            reply = collected.tokens
            assert re.fullmatch("(hello|[a-f]{3}){4}", core().decode([token.token_id for token in reply[:-1]]))
            assert reply[-1].finish is FinishReason.STOP
            assert all(token.logprob is not None and token.logprob.logprob <= 0 for token in reply)

    async def test_max_tokens_ends_a_reply_inside_its_grammar(self, engine: Engine) -> None:
        sampling = SamplingParameters(seed=0, grammar=GRAMMAR)
        request = prompt_of([9], seed=1).request(2, sampling=sampling, stop_token_ids=[end_id()])
        tokens = (await collect(engine, request)).tokens
        assert [token.finish for token in tokens] == [None, FinishReason.LENGTH]

    async def test_a_grammar_that_is_none_fails_its_request_alone(self, engine: Engine) -> None:
        good = prompt_of([12], seed=3)
        bad = good.request(6, sampling=SamplingParameters(seed=0, grammar="start: nothing"))
        results = await asyncio.gather(
            token_ids(engine, bad), token_ids(engine, good.request(5)), return_exceptions=True
        )
        assert isinstance(results[0], GrammarInvalid)
        assert results[1] == wanted(good, 5)
        await idle(engine)

    async def test_no_stop_token_comes_before_min_tokens(self, engine: Engine) -> None:
        prompt = prompt_of([20], seed=51)
        free = wanted(prompt, 6)
        sampling = SamplingParameters(seed=0, min_tokens=4)
        tokens = (await collect(engine, prompt.request(6, sampling=sampling, stop_token_ids=free))).tokens
        assert len(tokens) > 4
        assert not {token.token_id for token in tokens[:4]} & set(free)

    async def test_bias_is_added_to_logits(self, engine: Engine) -> None:
        prompt = prompt_of([20], seed=52)
        first, *_ = wanted(prompt, 1)
        bias = ((first, -math.inf), (7, 1000.0))
        assert await token_ids(engine, prompt.request(2, sampling=SamplingParameters(seed=0, logit_bias=bias))) == [
            7,
            7,
        ]

    async def test_what_can_never_fit_is_refused_at_once(self, small_engine: Engine) -> None:
        with pytest.raises(PromptTooLong, match="cached tokens"):
            await collect(small_engine, prompt_of([100], seed=71).request(8))
        await idle(small_engine)
