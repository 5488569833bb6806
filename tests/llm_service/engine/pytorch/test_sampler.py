"""Sampling equals transformers' processors where both exist, and draws what the probabilities say."""

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.generation import logits_process

from llm_service.engine.interface import SamplingParameters
from llm_service.engine.pytorch.draw import draw
from llm_service.engine.pytorch.penalties import History, penalize
from llm_service.engine.pytorch.sampler import SamplingRow, sample, uniform

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(50, generator=GENERATOR) * 3


def draws(logits: torch.Tensor, count: int, **fields: Any) -> torch.Tensor:
    """Frequencies of `count` draws with consecutive token indices."""
    parameters = SamplingParameters(seed=7, **fields)
    rows = [SamplingRow(parameters, index, None) for index in range(count)]
    tokens = [token.token_id for token in sample(logits.expand(count, -1), rows)]
    return torch.bincount(torch.tensor(tokens), minlength=len(logits)) / count


def penalized_row(parameters: SamplingParameters, prompt_ids: list[int], reply_ids: list[int]) -> SamplingRow:
    return SamplingRow(parameters, len(reply_ids), History(prompt_ids, [], reply_ids))


def test_greedy_is_the_argmax() -> None:
    (token,) = sample(LOGITS[None], [SamplingRow(SamplingParameters(seed=0), 0, None)])
    assert token.token_id == int(LOGITS.argmax())


@pytest.mark.parametrize(
    ("fields", "processor"),
    [
        ({"top_k": 5}, logits_process.TopKLogitsWarper(5)),
        ({"top_p": 0.7}, logits_process.TopPLogitsWarper(0.7)),
        ({"min_p": 0.1}, logits_process.MinPLogitsWarper(0.1)),
        ({}, None),
    ],
    ids=["top_k", "top_p", "min_p", "plain"],
)
def test_frequencies_are_the_filtered_probabilities(fields: dict[str, Any], processor: Any) -> None:
    scores = LOGITS / 1.5
    filtered = scores if processor is None else processor(torch.tensor([[0]]), scores[None])[0]
    wanted = filtered.softmax(-1)
    found = draws(LOGITS, 2000, temperature=1.5, **fields)
    assert (found[wanted == 0] == 0).all()
    assert (found - wanted).abs().max() < 0.035  # 3 standard deviations of the likeliest token


@given(
    seed=st.integers(0, 99),
    top_k=st.sampled_from([0, 1, 3, 8, 9, 30, 50, 60]),
    top_p=st.sampled_from([1.0, 0.99, 0.7, 0.01]),
    min_p=st.sampled_from([0.0, 0.01, 0.3]),
)
def test_looking_at_the_best_few_gives_what_sorting_all_gives(
    seed: int, top_k: int, top_p: float, min_p: float
) -> None:
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(seed)) * 2
    parameters = [SamplingParameters(seed=0, temperature=1.0, top_k=top_k, top_p=top_p, min_p=min_p)] * 6
    numbers = [uniform(seed, index) for index in range(6)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llm_service.engine.pytorch.draw.BEST_COUNT", 8)
        few = draw(logits, parameters, numbers)
    assert few == draw(logits, parameters, numbers)


@pytest.mark.parametrize("penalty", [1.3, 0.8])
def test_repetition_penalty_is_transformers(penalty: float) -> None:
    seen = [3, 4, int(LOGITS.argmax())]
    wanted = logits_process.RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([seen]), LOGITS[None].clone())
    row = penalized_row(SamplingParameters(seed=0, repetition_penalty=penalty), seen[:2], seen[2:])
    assert sample(LOGITS[None], [row])[0].token_id == int(wanted.argmax())


def test_presence_and_frequency_penalties_count_the_reply_only() -> None:
    logits = torch.tensor([[2.0, 1.9, 1.0]])
    presence = SamplingParameters(seed=0, presence_penalty=0.5)
    frequency = SamplingParameters(seed=0, frequency_penalty=0.06)
    assert sample(logits, [penalized_row(presence, [0], [])])[0].token_id == 0
    assert sample(logits, [penalized_row(presence, [], [0])])[0].token_id == 1
    assert sample(logits, [penalized_row(frequency, [], [0])])[0].token_id == 0
    assert sample(logits, [penalized_row(frequency, [], [0, 0])])[0].token_id == 1


@given(
    prompt_ids=st.lists(st.integers(0, 9), min_size=1, max_size=20),
    visual=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    reply_ids=st.lists(st.integers(0, 9), max_size=20),
    resumed_count=st.integers(0, 20),
)
def test_penalties_are_those_of_the_counts_whenever_tokens_came(
    prompt_ids: list[int], visual: tuple[int, int], reply_ids: list[int], resumed_count: int
) -> None:
    first, end = sorted(min(place, len(prompt_ids)) for place in visual)
    parameters = SamplingParameters(seed=0, repetition_penalty=1.3, presence_penalty=0.7, frequency_penalty=0.4)
    history = History(prompt_ids, [(first, end)], reply_ids[:resumed_count])
    for token_id in reply_ids[resumed_count:]:
        history.add(token_id)
    expected = LOGITS.clone()
    for token_id in {*prompt_ids[:first], *prompt_ids[end:], *reply_ids}:
        expected[token_id] *= 1 / 1.3 if expected[token_id] > 0 else 1.3
    for token_id, times in Counter(reply_ids).items():
        expected[token_id] -= 0.7 + 0.4 * times
    other = History([1], [])  # whose row is not changed by the first one's
    logits = LOGITS.repeat(2, 1)
    penalize(logits, [history, other], [parameters, SamplingParameters(seed=0)])
    torch.testing.assert_close(logits[0], expected)
    assert torch.equal(logits[1], LOGITS)


def test_a_draw_depends_on_seed_and_index_only() -> None:
    parameters = SamplingParameters(seed=3, temperature=1.0)
    alone = [sample(LOGITS[None], [SamplingRow(parameters, index, None)])[0].token_id for index in range(20)]
    rows = [SamplingRow(parameters, index, None) for index in range(20)]
    assert [token.token_id for token in sample(LOGITS.expand(20, -1), rows)] == alone
    other = SamplingParameters(seed=4, temperature=1.0)
    assert alone != [sample(LOGITS[None], [SamplingRow(other, index, None)])[0].token_id for index in range(20)]


def test_uniform_is_uniform() -> None:
    numbers = torch.tensor([uniform(seed, index) for seed in range(100) for index in range(100)])
    counts = torch.histc(numbers, bins=20, min=0, max=1)
    assert ((counts - 500).abs() < 100).all()  # 4.6 standard deviations
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1


def test_logprobs_are_the_models_before_temperature() -> None:
    parameters = SamplingParameters(seed=0, temperature=0.3, top_k=1, top_logprob_count=3)
    (token,) = sample(LOGITS[None], [SamplingRow(parameters, 0, None)])
    wanted = LOGITS.log_softmax(-1)
    assert token.logprob is not None
    assert token.logprob.logprob == pytest.approx(float(wanted.max()))
    assert [one.token_id for one in token.alternatives] == wanted.topk(3).indices.tolist()


def test_logits_are_left_as_they_are() -> None:
    logits = LOGITS[None].clone()
    parameters = SamplingParameters(seed=0, temperature=0.7, repetition_penalty=1.5, presence_penalty=1.0)
    sample(logits, [penalized_row(parameters, [1, 2], [3])])
    assert torch.equal(logits[0], LOGITS)
