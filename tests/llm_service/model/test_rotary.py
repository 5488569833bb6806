"""Rotations equal those of the V2PE repository, stay float32, and depend on nothing but the position."""

from typing import Any

import pytest
import torch
from transformers import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

from llm_service.model.rotary import FractionalRotary, RotaryUnsupported
from tests.support import golden

CASES = golden.load("v2pe")["rope_probe"]["cases"]


def config_of(**rope: Any) -> Qwen2Config:
    parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e6, **rope}
    return Qwen2Config(
        hidden_size=128, num_attention_heads=2, max_position_embeddings=32768, rope_parameters=parameters
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"theta {case['theta']:g} at {case['position']}")
def test_equals_the_reference(case: Any) -> None:
    rotary = FractionalRotary(theta=case["theta"], head_dim=case["head_dim"], device=torch.device("cpu"))
    positions = torch.tensor([[case["position"]]], dtype=torch.float32)
    cos, sin = rotary(torch.zeros(1), positions)
    assert cos[0, 0, case["index"]].tolist() == pytest.approx(case["cos"], abs=1e-6)
    assert sin[0, 0, case["index"]].tolist() == pytest.approx(case["sin"], abs=1e-6)
    cos, sin = rotary(torch.zeros(1, dtype=torch.bfloat16), positions)
    assert cos[0, 0, case["index"]].float().tolist() == case["cos_bf16"]
    assert sin[0, 0, case["index"]].float().tolist() == case["sin_bf16"]


def test_equals_transformers_inside_the_window() -> None:
    config = config_of()
    positions = torch.tensor([[0.0, 0.25, 1.0, 777.5, 32766.99609375]])
    hidden = torch.zeros(1, 5, 128)
    ours = FractionalRotary.from_config(config, torch.device("cpu"))(hidden, positions)
    theirs = Qwen2RotaryEmbedding(config)(hidden, positions)
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])


def test_casting_the_model_leaves_it_exact() -> None:
    rotary = FractionalRotary(theta=1e6, head_dim=64, device=torch.device("cpu"))
    positions = torch.tensor([[8370.25]])
    before = rotary(torch.zeros(1), positions)
    rotary.to(torch.bfloat16)
    assert torch.equal(rotary(torch.zeros(1), positions)[0], before[0])


@pytest.mark.parametrize("rope", [{"rope_type": "linear", "factor": 4.0}, {"partial_rotary_factor": 0.5}])
def test_other_scalings_are_refused(rope: dict[str, Any]) -> None:
    with pytest.raises(RotaryUnsupported):
        FractionalRotary.from_config(config_of(**rope), torch.device("cpu"))
