"""Settings in vLLM's words, for both layouts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llm_service.engine.vllm.options import SPAN, VllmOptions
from tests.support.checkpoints import MAX_POSITIONS, Layout, write_random_checkpoint


@pytest.fixture
def options(tiny_checkpoint: Path) -> VllmOptions:
    return VllmOptions(
        folder=tiny_checkpoint, dtype="float32", tensor_parallel=2, pipeline_parallel=3, page_size=0,
        cache_bytes=1 << 20, tokens_per_step=64, max_running=8, max_waiting=9, step_seconds=60.0,
        max_positions=0, max_request_tokens=0,
    )  # fmt: skip


@pytest.mark.parametrize("layout", ["original", "hf"])
def test_the_configuration_is_the_decoders(tmp_path: Path, options: VllmOptions, layout: Layout) -> None:
    write_random_checkpoint(tmp_path, layout=layout)
    configuration = replace(options, folder=tmp_path).configuration()
    assert configuration["architectures"] == ["InternvlDecoder"]
    assert configuration["tie_word_embeddings"] is False
    assert configuration["max_position_embeddings"] == SPAN * MAX_POSITIONS
    assert sum(configuration["rope_parameters"]["mrope_section"]) == 8
    assert len(configuration["rope_parameters"]["mrope_section"]) == 3
    assert configuration["v2pe"] == {
        "decoder": "Qwen2ForCausalLM", "theta": 1e6, "head_dim": 16, "window": MAX_POSITIONS, "ntk_factor": 2.0,
    }  # fmt: skip
    assert not {"vision_config", "rope_scaling", "rope_theta"} & configuration.keys()


def test_more_tokens_than_positions_may_be_asked_for(options: VllmOptions) -> None:
    assert replace(options, max_positions=5000).configuration()["max_position_embeddings"] == SPAN * 5000
    assert replace(options, max_request_tokens=777).configuration()["max_position_embeddings"] == 777


def test_no_dynamic_ntk_no_stretching(tmp_path: Path, options: VllmOptions) -> None:
    write_random_checkpoint(tmp_path)
    config: dict[str, Any] = json.loads((tmp_path / "config.json").read_text())
    del config["llm_config"]["rope_scaling"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    options = replace(options, folder=tmp_path)
    assert options.configuration()["v2pe"]["ntk_factor"] == 1.0
    with pytest.raises(ValueError, match="no dynamic NTK"):
        replace(options, max_positions=MAX_POSITIONS + 1).configuration()


def test_settings_become_vllms_arguments(tmp_path: Path, options: VllmOptions) -> None:
    arguments = replace(options, vllm_arguments={"quantization": "fp8"}).arguments(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == options.configuration()
    wanted = {
        "tensor_parallel_size": 2, "pipeline_parallel_size": 3, "kv_cache_memory_bytes": 1 << 20, "quantization": "fp8",
        "max_num_batched_tokens": 64, "max_num_seqs": 8, "limit_mm_per_prompt": {"image": 0},
    }  # fmt: skip
    assert {name: arguments[name] for name in wanted} == wanted
    assert "block_size" not in arguments
    assert replace(options, page_size=32).arguments(tmp_path)["block_size"] == 32


def test_arguments_that_follow_from_settings_are_refused(tmp_path: Path, options: VllmOptions) -> None:
    with pytest.raises(ValueError, match="dtype, mm_processor_cache_gb"):
        replace(options, vllm_arguments={"mm_processor_cache_gb": 4, "dtype": "half"}).arguments(tmp_path)


@pytest.mark.parametrize("place", ["top", "llm_config"])
def test_quantised_weights_are_vllms_affair(tmp_path: Path, options: VllmOptions, place: str) -> None:
    write_random_checkpoint(tmp_path)
    config: dict[str, Any] = json.loads((tmp_path / "config.json").read_text())
    quantised = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
    (config if place == "top" else config["llm_config"])["quantization_config"] = quantised
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert replace(options, folder=tmp_path).configuration()["quantization_config"] == quantised
