"""A tokenizer as the released checkpoints carry it (vocab.json, merges.txt, added tokens) builds the same prompts."""

import json
from pathlib import Path

from transformers import AutoTokenizer

from llm_service.conversation import Message, Role
from llm_service.detokenizer import Detokenizer
from llm_service.prompt import PromptBuilder
from tests.support.checkpoints import write_random_checkpoint
from tests.support.tokenizer import CONTROL_TOKENS, MERGES, tokenizer


def write_as_released(folder: Path) -> None:
    """The files of OpenGVLab/InternVL3-*: no tokenizer.json, and a config.json that names code of its own."""
    write_random_checkpoint(folder)
    (folder / "tokenizer.json").unlink()
    vocabulary = tokenizer().get_vocab()
    base = {token: index for token, index in vocabulary.items() if token not in CONTROL_TOKENS}
    added = {token: vocabulary[token] for token in CONTROL_TOKENS}
    (folder / "vocab.json").write_text(json.dumps(base, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in MERGES) + "\n")
    (folder / "added_tokens.json").write_text(json.dumps(added))
    decoder = {str(index): {"content": token, "special": True, "normalized": False} for token, index in added.items()}
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "added_tokens_decoder": decoder,
        "additional_special_tokens": list(CONTROL_TOKENS[1:]),
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "errors": "replace",
        "model_max_length": 12288,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = json.loads((folder / "config.json").read_text())
    names = {"AutoConfig": "configuration_internvl_chat.InternVLChatConfig", "AutoModel": "modeling.InternVLChatModel"}
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": names}))


def test_prompts_and_replies_are_the_same(tmp_path: Path) -> None:
    write_as_released(tmp_path)
    released = AutoTokenizer.from_pretrained(tmp_path)
    messages = [Message(Role.USER, ("hello the 你好 🐼 <|im_end|>",))]
    token_ids = PromptBuilder(released, "system").build(messages).token_ids
    assert token_ids == PromptBuilder(tokenizer(), "system").build(messages).token_ids
    detokenizer = Detokenizer(released.backend_tokenizer)
    text = "".join(map(detokenizer.add, token_ids)) + detokenizer.finish()
    assert text.startswith("<|im_start|>system\nsystem<|im_end|>\n<|im_start|>user\nhello the 你好 🐼 <|im_end|>")
