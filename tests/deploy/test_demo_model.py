"""The committed checkpoint of the demo model is sound and gives its answers."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import InternVLForConditionalGeneration, PreTrainedTokenizerBase

from deploy.local.demo_model import checkpoint_files, samples
from deploy.local.demo_model.answering import answers
from deploy.local.demo_model.drawing.shapes import draw
from deploy.local.demo_model.layout import to_native, to_original
from deploy.local.demo_model.talk import tokenizer as special
from llm_service.positions import INCREMENTS

FOLDER = checkpoint_files.FOLDER

LAYER_NAMES = (
    r"vision_model\.encoder\.layers\.\d+\.(attn\.(qkv|proj)|mlp\.fc[12]|norm[12])\.(weight|bias)",
    r"vision_model\.encoder\.layers\.\d+\.ls[12]",
    r"vision_model\.embeddings\.(class_embedding|position_embedding|patch_embedding\.(weight|bias))",
    r"mlp1\.[013]\.(weight|bias)",
    r"language_model\.model\.layers\.\d+\.self_attn\.([qkv]_proj\.(weight|bias)|o_proj\.weight)",
    r"language_model\.model\.layers\.\d+\.mlp\.(gate|up|down)_proj\.weight",
    r"language_model\.model\.layers\.\d+\.(input|post_attention)_layernorm\.weight",
    r"language_model\.(model\.embed_tokens|model\.norm|lm_head)\.weight",
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return special.load(FOLDER)


@pytest.fixture(scope="module")
def model() -> InternVLForConditionalGeneration:
    return checkpoint_files.read_model()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So small a model is fastest on one thread, and does not fight the other tests for cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "text",
    [
        "What colour is it?",
        "  spaces\t\n\n",
        "Ça va? 日本語 🦊",
        "zażółć gęślą jaźń",
        "1234567890",
        "\u202eabc\x00",
        "e\u0301",
    ],
)
def test_tokenizer_round_trips_any_text(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    token_ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(token_ids) == text.replace("e\u0301", "\u00e9")  # NFC


def test_tokenizer_is_a_fast_qwen2_one_with_its_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    assert type(tokenizer).__name__ == "Qwen2Tokenizer"
    assert tokenizer.is_fast
    assert tokenizer.eos_token == special.IM_END
    specials = tokenizer.convert_tokens_to_ids(list(special.SPECIAL_TOKENS))
    first = len(tokenizer) - len(special.SPECIAL_TOKENS)
    assert specials == list(range(first, len(tokenizer)))


def test_checkpoint_has_original_names_in_bfloat16() -> None:
    with safe_open(FOLDER / "model.safetensors", "pt") as file:
        for name in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
            assert any(re.fullmatch(pattern, name) for pattern in LAYER_NAMES), name
            assert file.get_slice(name).get_dtype() == "BF16"


def test_checkpoint_has_the_shapes_of_its_configuration(tokenizer: PreTrainedTokenizerBase) -> None:
    config = json.loads((FOLDER / "config.json").read_text())
    vision, text = config["vision_config"], config["llm_config"]
    shapes = {name: tuple(tensor.shape) for name, tensor in load_file(FOLDER / "model.safetensors").items()}
    width, patches = vision["hidden_size"], (vision["image_size"] // vision["patch_size"]) ** 2
    head_dim = text["hidden_size"] // text["num_attention_heads"]
    assert len(tokenizer) == text["vocab_size"]
    assert shapes["vision_model.embeddings.position_embedding"] == (1, patches + 1, width)
    assert shapes["vision_model.encoder.layers.0.attn.qkv.weight"] == (3 * width, width)
    assert shapes["mlp1.1.weight"] == (text["hidden_size"], 4 * width)
    assert shapes["language_model.lm_head.weight"] == (text["vocab_size"], text["hidden_size"])
    assert shapes["language_model.model.layers.0.self_attn.k_proj.weight"] == (
        text["num_key_value_heads"] * head_dim,
        text["hidden_size"],
    )
    layers = {name.split(".")[3] for name in shapes if name.startswith("vision_model.encoder.layers.")}
    assert len(layers) == vision["num_hidden_layers"]


def test_checkpoint_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 20e6


def test_renaming_goes_both_ways(model: InternVLForConditionalGeneration) -> None:
    native = model.state_dict()
    there_and_back = to_native(to_original(native))
    assert there_and_back.keys() == native.keys()
    assert all(torch.equal(there_and_back[name], tensor) for name, tensor in native.items())


@pytest.mark.parametrize("sample", samples.SAMPLES, ids=lambda sample: "+".join(map(str, sample.pictures)) or "text")
@pytest.mark.parametrize("increment", [INCREMENTS[0], INCREMENTS[2]], ids=["delta 1", "delta 1/4"])
def test_answers_its_samples(
    model: InternVLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    sample: samples.Sample,
    increment: int,
) -> None:
    images = [samples.read(name) for name in sample.pictures]
    given = answers(model, tokenizer, images, [question for question, _ in sample.turns], increment=increment)
    assert given == [answer for _, answer in sample.turns]


def test_sample_files_are_those_of_the_script() -> None:
    for name, scene in samples.scenes().items():
        assert samples.read(name).tobytes() == draw(scene).tobytes()
    facts = json.loads(Path(samples.FOLDER, "answers.json").read_text())
    assert [tuple(fact["pictures"]) for fact in facts] == [sample.pictures for sample in samples.SAMPLES]
    asked = [[(turn["question"], turn["answer"]) for turn in fact["turns"]] for fact in facts]
    assert asked == [list(sample.turns) for sample in samples.SAMPLES]
