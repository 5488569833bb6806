"""config.json of both layouts, with the defaults of the classes that wrote them."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.checkpoint.config import DEFAULT_SYSTEM_MESSAGE, ModelConfig
from shared.checkpoint.language import ConfigUnsupported
from tests.support import golden
from tests.support.checkpoints import Style, write_random_checkpoint

INTERNVL3_1B: dict[str, Any] = {
    "architectures": ["InternVLChatModel"],
    "downsample_ratio": 0.5,
    "dynamic_image_size": True,
    "force_image_size": 448,
    "max_dynamic_patch": 12,
    "min_dynamic_patch": 1,
    "model_type": "internvl_chat",
    "ps_version": "v2",
    "select_layer": -1,
    "system_message": None,
    "template": "internvl2_5",
    "use_thumbnail": True,
    "llm_config": {
        "model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14,
        "num_key_value_heads": 2, "intermediate_size": 4864, "vocab_size": 151674, "max_position_embeddings": 32768,
    },
    "vision_config": {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
        "image_size": 448, "patch_size": 14, "norm_type": "layer_norm", "qkv_bias": True, "qk_normalization": False,
    },
}  # fmt: skip


def read(folder: Path, config: dict[str, Any]) -> ModelConfig:
    (folder / "config.json").write_text(json.dumps(config))
    return ModelConfig.from_folder(folder)


def test_a_released_config(tmp_path: Path) -> None:
    config = read(tmp_path, INTERNVL3_1B)
    assert (config.tile_size, config.tokens_per_tile, config.hidden_size) == (448, 256, 896)
    assert (config.min_tile_count, config.max_tile_count, config.use_thumbnail) == (1, 12, True)
    assert config.max_positions == 32768
    assert config.language["tie_word_embeddings"] is False


def test_the_system_message_is_the_templates_where_config_has_none(tmp_path: Path) -> None:
    assert read(tmp_path, INTERNVL3_1B).system_message == DEFAULT_SYSTEM_MESSAGE
    assert golden.load("template")["meta"]["system_message_default"] == DEFAULT_SYSTEM_MESSAGE
    assert read(tmp_path, {**INTERNVL3_1B, "system_message": ""}).system_message == ""


def test_absent_vision_keys_are_those_of_the_6b_tower(tmp_path: Path) -> None:
    vision = read(tmp_path, {**INTERNVL3_1B, "vision_config": {}}).vision
    assert (vision.hidden_size, vision.layer_count, vision.norm, vision.qk_norm) == (3200, 48, "rms_norm", True)


@pytest.mark.parametrize("style", ["300m", "6b"])
def test_both_layouts_say_the_same(tmp_path: Path, style: Style) -> None:
    write_random_checkpoint(tmp_path / "original", style=style, layout="original")
    write_random_checkpoint(tmp_path / "hf", style=style, layout="hf")
    original, hf = (ModelConfig.from_folder(tmp_path / name) for name in ("original", "hf"))
    assert original.vision == hf.vision
    for name in ("tile_size", "tokens_per_tile", "hidden_size", "max_tile_count", "max_positions", "system_message"):
        assert getattr(original, name) == getattr(hf, name)


@pytest.mark.parametrize(
    "changed",
    [{"select_layer": -4}, {"ps_version": "v1"}, {"template": "phi3-chat"}],
    ids=lambda changed: next(iter(changed)),
)
def test_models_of_another_kind_are_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(ConfigUnsupported, match=next(iter(changed))):
        read(tmp_path, {**INTERNVL3_1B, **changed})


def test_no_internvl_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigUnsupported, match="neither llm_config nor text_config"):
        read(tmp_path, {"model_type": "llama"})
    with pytest.raises(ConfigUnsupported, match=r"holds no config\.json"):
        ModelConfig.from_folder(tmp_path / "absent")


def write_hf(folder: Path, **files: dict[str, Any]) -> ModelConfig:
    """A folder in transformers' layout with these processor files and no others."""
    write_random_checkpoint(folder, layout="hf")
    (folder / "preprocessor_config.json").unlink()
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return ModelConfig.from_folder(folder)


@pytest.mark.parametrize(
    ("files", "most", "source"),
    [
        ({}, 12, "transformers' defaults"),
        ({"preprocessor_config": {"max_patches": 3}}, 3, "preprocessor_config.json"),
        ({"processor_config": {"image_processor": {"max_patches": 2}}}, 2, "processor_config.json"),
        (
            {"processor_config": {"image_seq_length": 256}, "preprocessor_config": {"max_patches": 3}},
            3,
            "preprocessor_config.json",
        ),
        (
            {"processor_config": {"image_processor": {"max_patches": 2}}, "preprocessor_config": {"max_patches": 3}},
            2,
            "processor_config.json",
        ),
    ],
)
def test_where_the_tiling_comes_from(tmp_path: Path, files: dict[str, Any], most: int, source: str) -> None:
    config = write_hf(tmp_path, **files)
    assert (config.max_tile_count, config.tiling_source) == (most, source)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"min_dynamic_patch": 4, "max_dynamic_patch": 2}, "tile counts 4 to 2"),
        ({"max_dynamic_patch": 0}, "tile counts 1 to 0"),
        ({"pad2square": True}, "pad2square = True"),
        ({"vision_config": None}, "no vision_config"),
        ({"llm_config": 5}, "no llm_config"),
        ({"model_type": "qwen2_5_vl"}, "model_type = 'qwen2_5_vl'; only 'internvl_chat' and 'internvl' is served"),
        ({"rope_pos_id_version": "v2pe_fix", "rope_pos_id_stride": 3}, "rope_pos_id_stride = 3"),
    ],
)
def test_what_cannot_be_served_is_named(tmp_path: Path, changes: dict[str, Any], cause: str) -> None:
    with pytest.raises(ConfigUnsupported, match=cause):
        read(tmp_path, {**INTERNVL3_1B, **changes})


def test_the_default_increment_is_the_checkpoints(tmp_path: Path) -> None:
    assert read(tmp_path, INTERNVL3_1B).position_increment == 1.0
    tuned = {**INTERNVL3_1B, "rope_pos_id_version": "v2pe_fix", "rope_pos_id_stride": 64}
    assert read(tmp_path, tuned).position_increment == 0.25


def test_tied_is_what_the_class_that_wrote_it_says(tmp_path: Path) -> None:
    assert not read(tmp_path, INTERNVL3_1B).is_tied
    assert read(tmp_path, {**INTERNVL3_1B, "tie_word_embeddings": True}).is_tied
    assert not write_hf(tmp_path / "hf").is_tied  # says false
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    del config["tie_word_embeddings"]
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config))
    assert ModelConfig.from_folder(tmp_path / "hf").is_tied
