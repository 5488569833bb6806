"""Rotations equal those of the V2PE repository, stay float32, and depend on nothing but position and request."""

from typing import Any

import pytest
import torch
from transformers import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding, apply_rotary_pos_emb

from llm_service.model.rotary import Rotary, RotaryUnsupported, Rotation
from tests.support import golden

GOLDEN = golden.load("v2pe")
CPU = torch.device("cpu")
WINDOW = 32768


def config_of(**rope: Any) -> Qwen2Config:
    parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e6, **rope}
    return Qwen2Config(
        hidden_size=128, num_attention_heads=2, max_position_embeddings=WINDOW, rope_parameters=parameters
    )


def rotation_at(rotary: Rotary, positions: list[float], dtype: torch.dtype = torch.float32) -> Rotation:
    return rotary(
        torch.tensor(positions, dtype=torch.float32), torch.tensor([0]), torch.tensor([len(positions)]), dtype
    )


@pytest.mark.parametrize(
    "case", GOLDEN["rope_probe"]["cases"], ids=lambda case: f"theta {case['theta']:g} at {case['position']}"
)
def test_equals_the_reference(case: Any) -> None:
    rotary = Rotary(theta=case["theta"], head_dim=case["head_dim"], window=WINDOW)
    rotation = rotation_at(rotary, [case["position"]])
    assert rotation.cos[0, case["index"]].tolist() == pytest.approx(case["cos"], abs=1e-6)
    assert rotation.sin[0, case["index"]].tolist() == pytest.approx(case["sin"], abs=1e-6)
    rotation = rotation_at(rotary, [case["position"]], torch.bfloat16)
    assert rotation.cos[0, case["index"]].float().tolist() == case["cos_bf16"]
    assert rotation.sin[0, case["index"]].float().tolist() == case["sin_bf16"]


def test_equals_transformers_inside_the_window() -> None:
    positions = [0.0, 0.25, 1.0, 777.5, 32766.99609375]
    ours = rotation_at(Rotary.from_config(config_of()), positions)
    theirs = Qwen2RotaryEmbedding(config_of())(torch.zeros(1, 5, 128), torch.tensor([positions]))
    assert torch.equal(ours.cos, theirs[0][0])
    assert torch.equal(ours.sin, theirs[1][0])


def test_applies_as_transformers_does() -> None:
    rotation = rotation_at(Rotary.from_config(config_of()), [0.0, 3.5, 777.0])
    heads = torch.randn(3, 4, 64)
    states = heads.transpose(0, 1)[None]
    wanted, _ = apply_rotary_pos_emb(states, states, rotation.cos[None], rotation.sin[None])
    torch.testing.assert_close(rotation.apply(heads), wanted[0].transpose(0, 1))


@pytest.mark.parametrize("case", GOLDEN["dynamic_ntk"]["cases"], ids=lambda case: f"{case['seq_len']} positions")
def test_dynamic_ntk_is_the_reference(case: Any) -> None:
    rotary = Rotary(case["theta"], case["head_dim"], case["max_position_embeddings"], case["factor"])
    assert rotary.base(case["seq_len"]) == pytest.approx(case["base"], rel=1e-6)
    frequencies = rotary.inverse_frequencies(case["seq_len"], CPU)
    assert frequencies[1].item() == pytest.approx(case["inv_freq_1"], rel=1e-5)
    assert frequencies[-1].item() == pytest.approx(case["inv_freq_last"], rel=1e-5)


def test_dynamic_ntk_is_each_sequences_own() -> None:
    """A long request changes nothing for the short one it shares a step with, nor for the next one."""
    rotary = Rotary.from_config(config_of())
    positions = torch.tensor([5.0, 6.0, 40000.0])
    mixed = rotary(positions, torch.tensor([0, 50000]), torch.tensor([2, 1]), torch.float32)
    short = rotary(positions[:2], torch.tensor([0]), torch.tensor([2]), torch.float32)
    long = rotary(positions[2:], torch.tensor([50000]), torch.tensor([1]), torch.float32)
    assert torch.equal(mixed.cos, torch.cat([short.cos, long.cos]))
    assert not torch.allclose(long.cos, rotation_at(rotary, [40000.0]).cos, atol=1e-3)


@pytest.mark.parametrize("rope", [{"rope_type": "linear", "factor": 4.0}, {"partial_rotary_factor": 0.5}])
def test_other_scalings_are_refused(rope: dict[str, Any]) -> None:
    with pytest.raises(RotaryUnsupported):
        Rotary.from_config(config_of(**rope))


def test_lengths_known_on_the_device_alone_give_the_same_frequencies() -> None:
    rotary = Rotary.from_config(config_of())
    lengths = [0, 1, WINDOW, WINDOW + 1, 40_000, 3_000_000, 2**31 - 1]
    wanted = torch.stack([rotary.inverse_frequencies(length, CPU) for length in lengths])
    torch.testing.assert_close(rotary.frequencies(torch.tensor(lengths)), wanted, rtol=1e-6, atol=0.0)
    plain = Rotary(theta=1e4, head_dim=8, window=WINDOW)
    assert torch.equal(plain.frequencies(torch.tensor([0, WINDOW]))[0], plain.inverse_frequencies(0, CPU))
