"""`internvl check`: what a checkpoint is, and the services' own words for what cannot be served."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from deploy.sizing.family import SIZES, config_of, size_of
from deploy.sizing.memory import Device, Need, cached_tokens, fits, vision_need
from deploy.sizing.report import report_of
from internvl.cli.main import app
from shared.checkpoint.config import ModelConfig
from shared.checkpoint.weights import Checkpoint
from tests.support.checkpoints import Layout, Style, write_random_checkpoint

DEMO = Path("deploy/local/demo_model/checkpoint")


@pytest.mark.parametrize(("style", "layout", "shards"), [("300m", "original", 1), ("6b", "hf", 3)])
def test_a_checkpoint_that_is_served(tmp_path: Path, style: Style, layout: Layout, shards: int) -> None:
    write_random_checkpoint(tmp_path, style=style, layout=layout, shards=shards)
    report = report_of(tmp_path)
    assert report.refusals == []
    facts = report.facts
    assert facts["model"] == "no released size of InternVL3"
    assert facts["layout"].startswith("OpenGVLab's" if layout == "original" else "transformers'")
    assert facts["language"] == "qwen2, 2 layers of 64, 4 heads, 2 of keys and values"
    assert facts["weights"].startswith(f"{shards} file(s), 0.00 GB, F32")
    assert (facts["head"], facts["quantised"], facts["V2PE"]) == ("its own", "no", "default increment 1")
    assert facts["rotary"] == "dynamic NTK with factor 2, base 1e+06, trained window 2048 positions"
    source = "config.json" if layout == "original" else "preprocessor_config.json"
    assert facts["tiling"] == f"1 to 4 tiles and a thumbnail, from {source}"
    assert "tokens, from" in facts["tokenizer"]
    assert "cache 1.00 GiB" in facts["LLM service takes"]


def edit(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def quantised(folder: Path) -> None:
    edit(folder, lambda config: config.update(quantization_config={"quant_method": "awq", "bits": 4}))


def of_another_kind(folder: Path) -> None:
    edit(folder, lambda config: config.update(pad2square=True))


def without_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["mlp1.1.bias"]
    save_file(tensors, folder / "model.safetensors")


def without_a_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


@pytest.mark.parametrize(
    ("break_", "cause"),
    [
        (quantised, "quantization_config (awq, 4 bits)"),
        (of_another_kind, "pad2square = True"),
        (without_a_tensor, "1 tensors missing ['multi_modal_projector.linear_1.bias']"),
        (without_a_tokenizer, "has neither tokenizer.json nor vocab.json"),
    ],
)
def test_the_reason_is_the_services_own(tmp_path: Path, break_: Callable[[Path], None], cause: str) -> None:
    write_random_checkpoint(tmp_path)
    break_(tmp_path)
    (refusal,) = report_of(tmp_path).refusals
    assert cause in refusal


def test_a_tied_checkpoint_says_so(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["language_model.lm_head.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    assert "['language_model.lm_head.weight']" in report_of(tmp_path).refusals[0]
    edit(tmp_path, lambda config: config.update(tie_word_embeddings=True))
    report = report_of(tmp_path)
    assert (report.refusals, report.facts["head"]) == ([], "tied to the embedding")


def test_weights_that_are_elsewhere_are_not_missed(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert report_of(tmp_path, has_weights=False).refusals == []


def test_the_command(tmp_path: Path) -> None:
    good = CliRunner().invoke(app, ["check", str(DEMO)])
    assert good.exit_code == 0, good.output
    assert "qwen2, 4 layers of 128" in good.stdout
    torch.save({}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text("{}")
    bad = CliRunner().invoke(app, ["check", str(tmp_path)])
    assert bad.exit_code == 1
    assert "cannot serve:" in bad.stderr
    assert "pytorch_model.bin" in bad.stderr
    assert CliRunner().invoke(app, ["check", "neither"]).exit_code == 2


@pytest.mark.parametrize("size", SIZES)
def test_released_sizes_are_known_by_their_shapes(size: str) -> None:
    assert size_of(config_of(size)) == size
    assert size_of(replace(config_of(size), language={**config_of(size).language, "num_hidden_layers": 7})) is None


def test_a_cache_holds_as_many_tokens_as_the_sizes_say() -> None:
    """1 GiB of 12 KiB a token (1B), and of 320 KiB (78B)."""
    assert [cached_tokens(config_of(size)) for size in ("1B", "78B")] == [(1 << 20) // 12, (1 << 20) // 320]


@pytest.mark.parametrize(("kind", "value_bytes", "tiles"), [("cpu", 4, 4), ("cuda", 2, 16)])
def test_what_the_vision_service_takes(tmp_path: Path, kind: str, value_bytes: int, tiles: int) -> None:
    """Weights in the dtype of the device, a batch of tiles of 17 rows, each of 6 x 64 and 128 values in a layer."""
    write_random_checkpoint(tmp_path)
    checkpoint, config = Checkpoint.from_folder(tmp_path), ModelConfig.from_folder(tmp_path)
    need = vision_need(checkpoint, config, Device(kind, kind, 0, 0, value_bytes))
    numbers = sum(tensor.numel() for _, tensor in checkpoint.tensors("vision_tower.", "multi_modal_projector."))
    assert need == Need(numbers * value_bytes, 0, tiles * 17 * (6 * 64 + 128) * value_bytes)


@pytest.mark.parametrize(
    ("free", "wanted"), [(32, "both services fit"), (20, "either service fits, not both"), (5, "takes 4 of them")]
)
def test_whether_it_fits(free: int, wanted: str) -> None:
    device = Device("cuda", "cuda:0", 40 << 30, free << 30, 2)
    assert wanted in fits(device, [Need(12 << 30, 0, 0), Need(10 << 30, 8 << 30, 2 << 30)])
