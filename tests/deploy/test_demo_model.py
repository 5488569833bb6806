"""The demo model: its training data is reproducible, and the committed checkpoint is sound and gives its answers."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import InternVLForConditionalGeneration, PreTrainedTokenizerBase

from deploy.local.demo_model import checkpoint_files, digits, samples
from deploy.local.demo_model import tokenizer as special
from deploy.local.demo_model.answering import answers
from deploy.local.demo_model.batches import collate
from deploy.local.demo_model.curriculum import FULL, ExampleMaker
from deploy.local.demo_model.digits import Split
from deploy.local.demo_model.examples import IGNORED
from deploy.local.demo_model.layout import to_native, to_original
from deploy.local.demo_model.model import TOKENS_PER_TILE
from deploy.local.demo_model.muon import orthogonal
from deploy.local.demo_model.pictures import draw
from deploy.local.demo_model.scenes import SceneMaker
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


def pixels_of(seed: int) -> bytes:
    maker = SceneMaker(Split.TRAIN, np.random.default_rng(seed))
    pictures = [draw(maker.digit((112, 112))), draw(maker.groups((224, 112))), draw(maker.different(4, (150, 150)))]
    return b"".join(picture.tobytes() for picture in pictures)


def test_drawing_is_a_function_of_the_seed() -> None:
    assert pixels_of(5) == pixels_of(5)
    assert pixels_of(5) != pixels_of(6)


def test_no_digit_is_both_trained_on_and_tested_on() -> None:
    trained, held_out = set(digits.indices(Split.TRAIN)), set(digits.indices(Split.HELD_OUT))
    assert not trained & held_out
    assert len(trained | held_out) == len(digits.values()) == 1797
    assert len(held_out) == digits.HELD_OUT_COUNT
    drawn = {maker_drawing(seed) for seed in range(50)}
    assert drawn <= trained


def maker_drawing(seed: int) -> int:
    drawing = SceneMaker(Split.TRAIN, np.random.default_rng(seed)).digit((112, 112)).things[0].drawing
    assert drawing is not None
    return drawing


def test_examples_are_a_function_of_the_seed(tokenizer: PreTrainedTokenizerBase) -> None:
    first, second = (ExampleMaker(tokenizer, Split.TRAIN, np.random.default_rng(3)) for _ in range(2))
    for _ in range(20):
        one, other = first.example(FULL), second.example(FULL)
        assert (one.token_ids == other.token_ids).all()
        assert (one.ticks == other.ticks).all()


def test_only_answers_have_targets(tokenizer: PreTrainedTokenizerBase) -> None:
    example = ExampleMaker(tokenizer, Split.TRAIN, np.random.default_rng(1)).one_picture(turns=2)
    expected = "".join(f"{turn.answer}<|im_end|>" for turn in example.turns)
    assert tokenizer.decode(example.token_ids[example.targets != IGNORED]) == expected


def test_padding_is_masked(tokenizer: PreTrainedTokenizerBase) -> None:
    maker = ExampleMaker(tokenizer, Split.TRAIN, np.random.default_rng(1))
    examples = [maker.one_picture(turns=1), maker.two_pictures(), maker.text_only()]
    batch = collate(examples)
    assert batch.mask.sum(1).tolist() == [len(example.token_ids) for example in examples]
    image_token_id = tokenizer.convert_tokens_to_ids(special.IMG_CONTEXT)
    assert batch.token_ids.flatten().tolist().count(image_token_id) == TOKENS_PER_TILE * len(batch.tiles)


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
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 12e6


def test_renaming_goes_both_ways(model: InternVLForConditionalGeneration) -> None:
    native = model.state_dict()
    there_and_back = to_native(to_original(native))
    assert there_and_back.keys() == native.keys()
    assert all(torch.equal(there_and_back[name], tensor) for name, tensor in native.items())


def test_orthogonal_update_has_singular_values_around_one() -> None:
    torch.manual_seed(0)
    for rows, cols in ((32, 96), (96, 32)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(2, rows, cols)))
        assert values.min() > 0.5
        assert values.max() < 1.4


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
