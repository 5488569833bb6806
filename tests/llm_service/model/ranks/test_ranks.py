"""The part of the weights that a rank holds."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import Qwen2Config

from llm_service.model.ranks.ranks import Cut, Ranks, RanksUnsupported

PLAN = {
    "lm_head": "colwise_gather_output",
    "model.layers.*.self_attn.q_proj": "colwise",
    "model.layers.*.self_attn.q_norm": "replicated_with_grad_allreduce",
    "model.layers.*.mlp.down_proj": "rowwise",
}


@given(count=st.integers(0, 500), size=st.integers(1, 16))
def test_shares_make_up_the_whole_and_only_the_last_are_short(count: int, size: int) -> None:
    shares = [Ranks(rank, size).share(count) for rank in range(size)]
    assert [index for share in shares for index in range(share.start, share.stop)] == list(range(count))
    lengths = [share.stop - share.start for share in shares]
    assert all(length == -(-count // size) for length, later in pairwise(lengths) if later)


@pytest.mark.parametrize(
    ("name", "shape", "part"),
    [
        ("model.layers.7.self_attn.q_proj.weight", (8, 6), (slice(4, 8), slice(0, 6))),
        ("model.layers.17.self_attn.q_proj.bias", (8,), (slice(4, 8),)),
        ("model.layers.7.mlp.down_proj.weight", (6, 8), (slice(0, 6), slice(4, 8))),
        ("model.layers.7.mlp.down_proj.bias", (6,), (slice(0, 6),)),
        ("model.layers.7.self_attn.q_norm.weight", (8,), (slice(0, 8),)),
        ("model.norm.weight", (6,), (slice(0, 6),)),
        ("lm_head.weight", (5, 6), (slice(3, 5), slice(0, 6))),
    ],
)
def test_the_second_of_two_ranks_reads(name: str, shape: tuple[int, ...], part: tuple[slice, ...]) -> None:
    assert Cut(PLAN, Ranks(1, 2))(name, shape) == part


def test_a_plan_that_is_not_understood_is_refused_for_several_ranks() -> None:
    Cut({"experts": "grouped_gemm"}, Ranks())
    with pytest.raises(RanksUnsupported, match="grouped_gemm"):
        Cut({"experts": "grouped_gemm"}, Ranks(0, 2))


def test_heads_that_cannot_be_shared_evenly_are_refused_with_their_number() -> None:
    config = Qwen2Config(num_attention_heads=12, num_key_value_heads=2, intermediate_size=128)
    Ranks(0, 2).require_divides(config)
    with pytest.raises(RanksUnsupported, match=r"4 ranks .* num_key_value_heads is 2"):
        Ranks(0, 4).require_divides(config)
