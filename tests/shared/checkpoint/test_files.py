"""Which files hold the weights, and folders that hold something else: each says what it is and what to do."""

import json
from pathlib import Path

import pytest

from shared.checkpoint.config import ModelConfig
from shared.checkpoint.files import CheckpointInvalid, read_json, weight_files
from shared.checkpoint.tokenizer import load_tokenizer
from shared.checkpoint.weights import Checkpoint
from tests.support.checkpoints import write_random_checkpoint

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"x")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_git_lfs_pointer(tmp_path: Path, name: str) -> None:
    write_random_checkpoint(tmp_path)
    (tmp_path / name).write_text(POINTER)
    reads = {
        "model.safetensors": Checkpoint.from_folder,
        "config.json": ModelConfig.from_folder,
        "tokenizer.json": load_tokenizer,
    }
    with pytest.raises(CheckpointInvalid, match=rf"{name} is a git-lfs pointer.*run `git lfs pull` in {tmp_path}"):
        reads[name](tmp_path)


def test_shards_without_an_index_are_read(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path, shards=3)
    wanted = Checkpoint.from_folder(tmp_path).names("")
    (tmp_path / "model.safetensors.index.json").unlink()
    assert Checkpoint.from_folder(tmp_path).names("") == wanted


def test_one_file_of_another_name_is_read(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path)
    wanted = Checkpoint.from_folder(tmp_path).names("")
    (tmp_path / "model.safetensors").rename(tmp_path / "internvl.safetensors")
    assert Checkpoint.from_folder(tmp_path).names("") == wanted


@pytest.mark.parametrize(
    ("names", "cause"),
    [
        (["model-00001-of-00003.safetensors"], r"lacks the shards 2, 3, and has no model\.safetensors\.index\.json"),
        (["a-00001-of-00001.safetensors", "b-00001-of-00002.safetensors"], "shards of several checkpoints"),
        (["a.safetensors", "b.safetensors"], "2 safetensors files and no"),
        (["pytorch_model.bin", "config.json"], r"pickles \(pytorch_model\.bin\).*convert"),
        (["adapter_config.json", "adapter_model.safetensors"], "LoRA adapter.*merge it into its base model"),
        (["adapter_config.json", "adapter_model.bin"], "LoRA adapter.*merge it into its base model"),
        (["README.md"], r"holds neither model\.safetensors nor"),
    ],
)
def test_folders_without_weights_that_can_be_read(tmp_path: Path, names: list[str], cause: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(CheckpointInvalid, match=cause):
        weight_files(tmp_path)


def test_an_adapter_has_no_configuration_either(tmp_path: Path) -> None:
    touch(tmp_path, "adapter_config.json")
    with pytest.raises(CheckpointInvalid, match="LoRA adapter"):
        ModelConfig.from_folder(tmp_path)


@pytest.mark.parametrize("index", ["{", "{}", '{"weight_map": {}}', '{"weight_map": []}', "[]"])
def test_an_index_that_is_none(tmp_path: Path, index: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointInvalid, match=r"model\.safetensors\.index\.json (is not|has no)"):
        weight_files(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "\udcff"])
def test_json_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointInvalid, match=r"config\.json is not"):
        read_json(path)


def test_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"a": [1]}))
    assert read_json(tmp_path / "a.json") == {"a": [1]}
