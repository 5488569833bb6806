"""Checkpoints that the tool writes: read by the loaders of both services, sane in their logits."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import InternVLForConditionalGeneration

from bench.checkpoint.qwen import IMAGE_TOKEN_ID, STOP_TOKEN_ID, VOCABULARY_SIZE
from bench.checkpoint.shapes import FAMILY
from bench.checkpoint.write import Layout, tensor_shapes, write_checkpoint
from llm_service.model.hardware import Hardware
from llm_service.model.loading import load_language_model
from shared.checkpoint.config import ModelConfig
from shared.checkpoint.tokenizer import load_tokenizer
from shared.checkpoint.weights import Checkpoint
from vision_service.model.loading import load_visual_encoder

PARAMETER_COUNTS = {
    "1B": 938_193_024,
    "2B": 2_088_957_440,
    "8B": 7_944_373_760,
    "14B": 15_117_256_704,
    "38B": 38_388_164_992,
    "78B": 78_408_318_336,
}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("written") / "checkpoint"
    write_checkpoint(made, FAMILY["tiny"], shard_bytes=4 << 20)
    return made


@pytest.mark.parametrize("size", PARAMETER_COUNTS)
@pytest.mark.parametrize("layout", ["internvl", "hf"])
def test_every_size_has_the_parameters_of_the_release(size: str, layout: Layout) -> None:
    shapes = tensor_shapes(FAMILY[size], layout)
    assert sum(int(torch.tensor(shape).prod()) for shape in shapes.values()) == PARAMETER_COUNTS[size]


def test_a_cut_keeps_the_widths() -> None:
    whole, cut = (tensor_shapes(shape, "internvl") for shape in (FAMILY["78B"], FAMILY["78B"].cut(1)))
    assert cut.items() < whole.items()
    assert cut["vision_model.encoder.layers.0.attn.qkv.weight"] == (9600, 3200)
    assert cut["language_model.model.layers.0.mlp.up_proj.weight"] == (29568, 8192)


@torch.no_grad()
def test_both_halves_load_and_their_output_is_of_order_one(folder: Path) -> None:
    config, checkpoint = ModelConfig.from_folder(folder), Checkpoint.from_folder(folder)
    tower = load_visual_encoder(checkpoint, config, device=CPU, dtype=torch.float32, progress=lambda *_: None)
    rows = tower(torch.randn(2, 3, config.tile_size, config.tile_size))
    assert rows.shape == (2, config.tokens_per_tile, config.hidden_size)
    assert 0.1 < float(rows.std()) < 10
    load_language_model(checkpoint, config, Hardware.choose(CPU, dtype="float32"), progress=lambda *_: None)


def test_shards_are_bounded_and_indexed(folder: Path) -> None:
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(files) > 2
    assert sorted(set(index["weight_map"].values())) == files
    assert index["weight_map"].keys() == tensor_shapes(FAMILY["tiny"], "internvl").keys()


def test_the_tokenizer_has_the_released_ids(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    assert tokenizer.get_vocab_size() == VOCABULARY_SIZE
    named = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "<img>", "<IMG_CONTEXT>", "</box>"]
    wanted = [151643, 151644, STOP_TOKEN_ID, 151657, 151665, IMAGE_TOKEN_ID, 151673]
    assert [tokenizer.token_to_id(name) for name in named] == wanted
    # As Qwen2.5 cuts them.
    assert tokenizer.encode("Hello world!").ids == [9707, 1879, 0]
    assert tokenizer.encode("<|im_start|>user\n").ids == [151644, 872, 198]
    text = "Ein Bär 🐼, 你好 0123;\n\n  def f(x):  # it's"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@torch.no_grad()
def test_transformers_reads_the_hf_layout(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "made", FAMILY["tiny"], layout="hf", dtype=torch.float32)
    model = InternVLForConditionalGeneration.from_pretrained(tmp_path / "made")
    written = load_file(tmp_path / "made" / "model-00001-of-00001.safetensors")
    assert torch.equal(model.lm_head.weight, written["language_model.lm_head.weight"])
    assert torch.equal(model.model.vision_tower.embeddings.cls_token, written["vision_tower.embeddings.cls_token"])
    logits = model(input_ids=torch.arange(100, 120)[None]).logits
    assert 0.1 < float(logits.std()) < 10


def test_files_and_keys_are_those_of_the_released_repositories(folder: Path) -> None:
    names = {path.name for path in folder.iterdir() if not path.name.startswith("model-")}
    tokenizer_files = {"vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json"}
    assert names == tokenizer_files | {"config.json", "model.safetensors.index.json"}
    config = json.loads((folder / "config.json").read_text())
    assert config["auto_map"]["AutoModel"] == "modeling_internvl_chat.InternVLChatModel"
    decoder = config["llm_config"]
    assert (decoder["sliding_window"], decoder["use_sliding_window"], decoder["max_window_layers"]) == (None, False, 70)


@pytest.mark.parametrize("size", ["38B", "78B"])
def test_the_6b_tower_has_the_names_that_the_original_code_reads(size: str) -> None:
    names = tensor_shapes(FAMILY[size], "internvl").keys()
    for part in ("q_norm.weight", "k_norm.weight", "qkv.weight", "proj.weight"):
        assert f"vision_model.encoder.layers.0.attn.{part}" in names
    assert not [name for name in names if ".attention." in name]


def test_a_folder_in_use_is_left_alone(folder: Path) -> None:
    with pytest.raises(FileExistsError, match="not empty"):
        write_checkpoint(folder, FAMILY["tiny"])
