"""The decoder's part of config.json."""

from typing import Any

import pytest
from transformers import AutoConfig

from llm_service.model.rotary import Rotary
from shared.checkpoint.language import (
    ConfigUnsupported,
    is_tied,
    language_config,
    position_increment,
    quantisation,
    refuse_quantised,
)

QWEN: dict[str, Any] = {
    "model_type": "qwen2",
    "hidden_size": 896,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "intermediate_size": 4864,
    "vocab_size": 151674,
    "max_position_embeddings": 32768,
    "rope_theta": 1e6,
}


@pytest.mark.parametrize("key", ["model_type", "vocab_size", "num_key_value_heads", "max_position_embeddings"])
def test_a_key_that_is_missing_is_named(key: str) -> None:
    trimmed = {name: value for name, value in QWEN.items() if name != key}
    with pytest.raises(ConfigUnsupported, match=rf"config\.json: llm_config lacks {key}"):
        language_config({"llm_config": trimmed}, "llm_config")


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({}, 1.0),
        ({"rope_pos_id_version": "default", "rope_pos_id_stride": 64}, 1.0),
        ({"rope_pos_id_version": "v2pe_fix", "rope_pos_id_stride": 64}, 0.25),
        ({"rope_pos_id_version": "v2pe_fix", "rope_pos_id_stride": 256}, 1.0),
        ({"rope_pos_id_version": "v2pe_fix", "rope_pos_id_stride": 1}, 1 / 256),
        ({"rope_pos_id_version": "v2pe_rnd"}, 1.0),
        ({"rope_pos_id_version": "v2pe_rnd", "rope_pos_id_stride": 16}, 0.0625),
        ({"rope_pos_id_version": None, "rope_pos_id_stride": None}, 1.0),
    ],
)
def test_the_increment_a_checkpoint_was_tuned_for(keys: dict[str, Any], wanted: float) -> None:
    assert position_increment(keys) == wanted


@pytest.mark.parametrize(
    ("keys", "cause"),
    [
        ({"rope_pos_id_version": "v3"}, "rope_pos_id_version = 'v3'"),
        ({"rope_pos_id_version": "v2pe_fix"}, "rope_pos_id_stride = None"),
        ({"rope_pos_id_version": "v2pe_fix", "rope_pos_id_stride": 65}, "rope_pos_id_stride = 65"),
        ({"rope_pos_id_version": "v2pe_fix", "rope_pos_id_stride": 0}, "rope_pos_id_stride = 0"),
    ],
)
def test_increments_that_are_none(keys: dict[str, Any], cause: str) -> None:
    with pytest.raises(ConfigUnsupported, match=cause):
        position_increment(keys)


@pytest.mark.parametrize("name", ["type", "rope_type"])
def test_v2pes_own_rotary_type_is_the_plain_rotation(name: str) -> None:
    config = {"llm_config": {**QWEN, "rope_scaling": {name: "v2pe", "factor": 1}}}
    fields = language_config(config, "llm_config")
    rotary = Rotary.from_config(AutoConfig.for_model(fields.pop("model_type"), **fields))
    assert (rotary.theta, rotary.ntk_factor, rotary.window) == (1e6, 1.0, 32768)


@pytest.mark.parametrize(
    ("config", "default", "wanted"),
    [
        ({"llm_config": {}}, False, False),
        ({"llm_config": {}}, True, True),
        ({"llm_config": {}, "tie_word_embeddings": False}, True, False),
        ({"llm_config": {"tie_word_embeddings": True}, "tie_word_embeddings": False}, False, True),
        ({"llm_config": {"tie_word_embeddings": False}, "tie_word_embeddings": True}, False, True),
    ],
)
def test_tied(config: dict[str, Any], *, default: bool, wanted: bool) -> None:
    assert is_tied(config, "llm_config", default=default) is wanted


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"quant_method": "awq", "bits": 4}, "awq, 4 bits"),
        ({"quant_method": "gptq", "bits": 8}, "gptq, 8 bits"),
        ({"quant_method": "fp8"}, "fp8"),
    ],
)
@pytest.mark.parametrize("place", ["top", "llm_config"])
def test_quantised(options: dict[str, Any], wanted: str, place: str) -> None:
    """Said where it is, kept for vLLM, refused by name for the torch engine."""
    quantised = {"quantization_config": options}
    config = {"llm_config": QWEN, **quantised} if place == "top" else {"llm_config": {**QWEN, **quantised}}
    language = language_config(config, "llm_config")
    assert quantisation(language) == wanted
    assert language["quantization_config"] == options
    with pytest.raises(ConfigUnsupported, match=rf"quantization_config \({wanted}\).*engine=vllm"):
        refuse_quantised(language)


def test_not_quantised() -> None:
    language = language_config({"llm_config": QWEN}, "llm_config")
    assert quantisation(language) is None
    refuse_quantised(language)
