"""A checkpoint's tokenizer from its files alone: the same ids as transformers' own, and no code of the checkpoint."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bench.checkpoint.qwen import tokenizer as qwen_tokenizer
from bench.checkpoint.tokenizer_files import write_as_released
from llm_service.conversation import Message, Role
from llm_service.detokenizer import Detokenizer, token_bytes
from llm_service.prompt import PromptBuilder
from shared.checkpoint.files import CheckpointInvalid
from shared.checkpoint.tokenizer import TokenizerUnsupported, load_tokenizer
from tests.support.tokenizer import tokenizer, write_tokenizer

TEXTS = st.text(max_size=40) | st.lists(
    st.sampled_from(
        ["hello", " the", "你好", "🐼", "e\u0301", "1234", "\n\n", "  ", "<|im_end|>", "<box>", "<tool_call>", "don't"]
    ),
    max_size=12,
).map("".join)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """All 151,674 tokens, through files as the hub has them."""
    folder = tmp_path_factory.mktemp("released")
    write_as_released(folder, qwen_tokenizer().backend_tokenizer)
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def original() -> Tokenizer:
    return qwen_tokenizer().backend_tokenizer


@pytest.mark.parametrize("split_special", [False, True])
@given(text=TEXTS)
def test_the_released_files_give_the_ids_of_transformers(
    released: Tokenizer, original: Tokenizer, text: str, split_special: bool
) -> None:
    released.encode_special_tokens = original.encode_special_tokens = split_special
    ids = released.encode(text, add_special_tokens=False).ids
    assert ids == original.encode(text, add_special_tokens=False).ids
    assert released.decode(ids, skip_special_tokens=False) == original.decode(ids, skip_special_tokens=False)


@given(token_id=st.integers(0, 151_673))
def test_the_bytes_of_a_token_are_those_that_it_decodes_to(released: Tokenizer, token_id: int) -> None:
    text = released.decode([token_id], skip_special_tokens=False)
    assert "\ufffd" in text or token_bytes(released, token_id) == text.encode()


def test_a_file_that_holds_all_is_read_alone(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    assert load_tokenizer(tmp_path).get_vocab() == tokenizer().get_vocab()


def test_prompts_and_replies_are_the_same_from_released_files(tmp_path: Path) -> None:
    write_as_released(tmp_path, tokenizer().backend_tokenizer)
    released = load_tokenizer(tmp_path)
    messages = [Message(Role.USER, ("hello the 你好 🐼 <|im_end|>",))]
    token_ids = PromptBuilder(released, "system").build(messages).token_ids
    detokenizer = Detokenizer(released)
    text = "".join(map(detokenizer.add, token_ids)) + detokenizer.finish()
    assert text.startswith("<|im_start|>system\nsystem<|im_end|>\n<|im_start|>user\nhello the 你好 🐼 <|im_end|>")
    assert [released.id_to_token(each) for each in token_ids].count("<|im_end|>") == 2


@pytest.mark.parametrize(
    ("files", "cause"),
    [
        ({}, "neither tokenizer.json nor vocab.json"),
        ({"tokenizer.json": "{"}, "tokenizer.json is not a tokenizer"),
        ({"vocab.json": "{", "merges.txt": ""}, "vocab.json is not readable JSON"),
        ({"vocab.json": '{"a": 0}', "merges.txt": "a b\n"}, "do not fit together"),
        ({"vocab.json": '{"a": 0}', "merges.txt": "", "added_tokens.json": '{"<img>": 7}'}, "another id than 7"),
        ({"tokenizer.model": "\n\x0e"}, "SentencePiece tokenizer"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path: Path, files: dict[str, str], cause: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises((TokenizerUnsupported, CheckpointInvalid), match=cause):
        load_tokenizer(tmp_path)


def test_no_code_of_the_checkpoint_is_named_or_run(tmp_path: Path) -> None:
    """Released checkpoints name code of their own (`auto_map`): nothing here looks at it."""
    write_as_released(tmp_path, tokenizer().backend_tokenizer)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": ["evil.Tokenizer", None]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "evil.py").write_text("raise SystemExit('this must not run')")
    assert load_tokenizer(tmp_path).token_to_id("<img>") is not None
