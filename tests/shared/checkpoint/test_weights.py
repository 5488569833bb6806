"""Tensors come out under one set of names, whichever layout they lie in; a broken folder is refused with the reason."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.checkpoint.files import CheckpointInvalid
from shared.checkpoint.weights import (
    LANGUAGE_PREFIXES,
    VISION_PREFIXES,
    Checkpoint,
    resolve_folder,
)
from tests.support.checkpoints import Layout, Style, write_random_checkpoint


def native_names(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """transformers' own names in the form a checkpoint is asked for."""
    renamed = {}
    for name, tensor in model.state_dict().items():
        if name.startswith("model.language_model."):
            renamed["language_model.model." + name.removeprefix("model.language_model.")] = tensor
        else:
            renamed["language_model." + name if name.startswith("lm_head.") else name.removeprefix("model.")] = tensor
    return renamed


@pytest.mark.parametrize("style", ["300m", "6b"])
@pytest.mark.parametrize("layout", ["original", "hf"])
@pytest.mark.parametrize("shards", [1, 3])
def test_both_layouts_give_the_native_tensors(tmp_path: Path, style: Style, layout: Layout, shards: int) -> None:
    native = native_names(write_random_checkpoint(tmp_path, style=style, layout=layout, shards=shards))
    checkpoint = Checkpoint.from_folder(tmp_path)
    found = dict(checkpoint.tensors(*VISION_PREFIXES, *LANGUAGE_PREFIXES))
    assert found.keys() == native.keys()
    assert all(torch.equal(found[name], native[name]) for name in native)


def test_a_prefix_is_all_that_is_read(tmp_path: Path) -> None:
    """The language file may even be missing its bytes, as long as nobody asks for them."""
    write_random_checkpoint(tmp_path)
    checkpoint = Checkpoint.from_folder(tmp_path)
    names = [name for name, _ in checkpoint.tensors(*VISION_PREFIXES)]
    assert names == checkpoint.names(*VISION_PREFIXES)
    assert all(name.startswith(VISION_PREFIXES) for name in names)
    parts = checkpoint.byte_count(*VISION_PREFIXES) + checkpoint.byte_count(*LANGUAGE_PREFIXES)
    assert parts == checkpoint.byte_count("")


def test_of_a_tensor_that_is_cut_only_the_part_is_given(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path)
    checkpoint = Checkpoint.from_folder(tmp_path)
    whole = dict(checkpoint.tensors(*LANGUAGE_PREFIXES))
    parts = dict(checkpoint.tensors(*LANGUAGE_PREFIXES, cut=lambda name, shape: (slice(1, shape[0] // 2),)))
    assert parts.keys() == whole.keys()
    assert all(torch.equal(parts[name], tensor[1 : len(tensor) // 2]) for name, tensor in whole.items())


def test_names_with_a_leading_model_are_the_same(tmp_path: Path) -> None:
    native = native_names(write_random_checkpoint(tmp_path, layout="hf"))
    tensors = load_file(tmp_path / "model.safetensors")
    renamed = {
        ("model." + name if not name.startswith("language_model.") else name)
        .replace("language_model.model.", "model.language_model.", 1)
        .replace("language_model.lm_head.", "lm_head.", 1): tensor
        for name, tensor in tensors.items()
    }
    save_file(renamed, tmp_path / "model.safetensors")
    assert Checkpoint.from_folder(tmp_path).names("") == sorted(native)


def test_fingerprints(tmp_path: Path) -> None:
    """Equal for equal folders, however sharded; another for another projector, tower or configuration."""
    for name, seed, shards in (("a", 0, 1), ("b", 0, 3), ("c", 1, 1)):
        write_random_checkpoint(tmp_path / name, seed=seed, shards=shards)
    a, b, c = (Checkpoint.from_folder(tmp_path / name) for name in "abc")
    assert a.pairing_fingerprint() == b.pairing_fingerprint() != c.pairing_fingerprint()
    assert (
        a.content_digest(*VISION_PREFIXES) == b.content_digest(*VISION_PREFIXES) != c.content_digest(*VISION_PREFIXES)
    )
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    (tmp_path / "b" / "config.json").write_text(json.dumps({**config, "max_dynamic_patch": 6}))
    assert a.pairing_fingerprint() != Checkpoint.from_folder(tmp_path / "b").pairing_fingerprint()


@pytest.mark.parametrize("length", [0, 5, 100, 5000, -1])
def test_a_file_that_is_cut_off(tmp_path: Path, length: int) -> None:
    write_random_checkpoint(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointInvalid, match="cut off"):
        Checkpoint.from_folder(tmp_path)


def test_a_shard_that_is_missing(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path, shards=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointInvalid, match="lacks model-00002-of-00003"):
        Checkpoint.from_folder(tmp_path)


def test_tensors_that_are_not_what_is_wanted(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path)
    checkpoint = Checkpoint.from_folder(tmp_path)
    shapes = {name: tuple(tensor.shape) for name, tensor in checkpoint.tensors("multi_modal_projector.")}
    checkpoint.require(shapes, "multi_modal_projector.")
    with pytest.raises(CheckpointInvalid, match=r"1 tensors missing \['multi_modal_projector.linear_3'\]"):
        checkpoint.require({**shapes, "multi_modal_projector.linear_3": (1,)}, "multi_modal_projector.")
    with pytest.raises(CheckpointInvalid, match=r"linear_1\.bias is .* config\.json says"):
        checkpoint.require({**shapes, "multi_modal_projector.linear_1.bias": (65,)}, "multi_modal_projector.")


@pytest.mark.parametrize("model", ["no/such/folder", "nonsense"])
def test_neither_a_folder_nor_a_name(model: str) -> None:
    with pytest.raises(CheckpointInvalid, match="neither a folder nor a name"):
        resolve_folder(model, "")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointInvalid, match="holds neither"):
        Checkpoint.from_folder(tmp_path)


def changed(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Checkpoint:
    """The folder's tensors, changed."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    return Checkpoint.from_folder(folder)


@pytest.mark.parametrize("layout", ["original", "hf"])
def test_a_head_that_is_stored_once(tmp_path: Path, layout: Layout) -> None:
    write_random_checkpoint(tmp_path, layout=layout)
    head = next(name for name in load_file(tmp_path / "model.safetensors") if name.endswith("lm_head.weight"))
    checkpoint = changed(tmp_path, lambda tensors: tensors.pop(head))
    assert not checkpoint.has_head
    assert not checkpoint.with_head(is_tied=False).has_head
    tied = checkpoint.with_head(is_tied=True)
    found = dict(tied.tensors(*LANGUAGE_PREFIXES))
    assert torch.equal(found["language_model.lm_head.weight"], found["language_model.model.embed_tokens.weight"])
    assert checkpoint.pairing_fingerprint() == tied.pairing_fingerprint()


def test_a_head_of_its_own_is_kept(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path)
    found = dict(Checkpoint.from_folder(tmp_path).with_head(is_tied=True).tensors(*LANGUAGE_PREFIXES))
    assert not torch.equal(found["language_model.lm_head.weight"], found["language_model.model.embed_tokens.weight"])


def test_buffers_of_older_versions_are_left_out(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path)
    wanted = Checkpoint.from_folder(tmp_path).names("")
    buffers = {
        "language_model.model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8),
        "vision_model.embeddings.position_ids": torch.arange(4),
    }
    assert changed(tmp_path, lambda tensors: tensors.update(buffers)).names("") == wanted


@pytest.mark.parametrize(
    "name",
    [
        "language_model.base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight",
        "language_model.base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight",
    ],
)
def test_a_lora_that_is_not_merged(tmp_path: Path, name: str) -> None:
    write_random_checkpoint(tmp_path)
    with pytest.raises(CheckpointInvalid, match="LoRA that is not merged: merge it first"):
        changed(tmp_path, lambda tensors: tensors.update({name: torch.ones(2)}))


@pytest.mark.parametrize(("dtype", "name"), [(torch.float8_e4m3fn, "F8_E4M3"), (torch.int8, "I8")])
def test_quantised_tensors_under_plain_names(tmp_path: Path, dtype: torch.dtype, name: str) -> None:
    write_random_checkpoint(tmp_path)
    checkpoint = changed(
        tmp_path, lambda tensors: tensors.update({"mlp1.1.weight": tensors["mlp1.1.weight"].to(dtype)})
    )
    shapes = {each: tuple(tensor.shape) for each, tensor in checkpoint.tensors("multi_modal_projector.")}
    with pytest.raises(CheckpointInvalid, match=rf"linear_1\.weight is stored as {name}, quantised"):
        checkpoint.require(shapes, "multi_modal_projector.")
