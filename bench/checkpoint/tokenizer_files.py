"""Tokenizer files as the released InternVL3 repositories carry them: no tokenizer.json."""

import json
from pathlib import Path

from tokenizers import Tokenizer


def write_as_released(folder: Path, tokenizer: Tokenizer) -> None:
    """vocab.json, merges.txt, added_tokens.json and tokenizer_config.json of a byte-level tokenizer."""
    whole = json.loads(tokenizer.to_str())
    added = {each["content"]: each["id"] for each in whole["added_tokens"]}
    base = {piece: token_id for piece, token_id in whole["model"]["vocab"].items() if piece not in added}
    merges = (" ".join(pair) if isinstance(pair, list) else pair for pair in whole["model"]["merges"])
    (folder / "vocab.json").write_text(json.dumps(base, ensure_ascii=False), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", "utf-8")
    (folder / "added_tokens.json").write_text(json.dumps(added), "utf-8")
    decoder = {
        str(each["id"]): {"content": each["content"], "special": each["special"], "normalized": False}
        for each in whole["added_tokens"]
    }
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "added_tokens_decoder": decoder,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "errors": "replace",
        "model_max_length": 12288,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
