"""A checkpoint's tokenizer, from its files alone: no class is looked up, and no code of the checkpoint is run.

Either `tokenizer.json`, or the files that the released InternVL3 repositories carry:

    vocab.json               pieces and their ids, bytes written as printable characters
    merges.txt               pairs of pieces, in order of rank
    added_tokens.json        further tokens and their ids
    tokenizer_config.json    which of those are special (`added_tokens_decoder`)
"""

from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from shared.checkpoint.files import read_json, refuse_pointer

_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen2 splits a text before it merges bytes."""


class TokenizerUnsupported(ValueError):
    """A tokenizer that cannot be read, or without InternVL's control tokens."""


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in `folder`. Raises TokenizerUnsupported or CheckpointInvalid that name the file."""
    if (folder / "tokenizer.json").is_file():
        tokenizer = _read_whole(folder / "tokenizer.json")
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        tokenizer = _read_byte_level(folder)
    elif (folder / "tokenizer.model").is_file():
        raise TokenizerUnsupported(f"{folder}: a SentencePiece tokenizer (InternVL3-9B, InternLM) is not served")
    else:
        raise TokenizerUnsupported(f"{folder} has neither tokenizer.json nor vocab.json and merges.txt")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _read_whole(path: Path) -> Tokenizer:
    refuse_pointer(path)
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises Exception itself
        raise TokenizerUnsupported(f"{path} is not a tokenizer of the tokenizers library") from error


def _read_byte_level(folder: Path) -> Tokenizer:
    vocabulary = read_json(folder / "vocab.json")
    refuse_pointer(folder / "merges.txt")
    lines = (folder / "merges.txt").read_text("utf-8").split("\n")
    merges = [tuple(line.split(" ")) for line in lines if line.strip() and not line.startswith("#version")]
    try:
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))  # type: ignore[arg-type]
    except Exception as error:  # tokenizers raises Exception itself
        raise TokenizerUnsupported(f"{folder}: vocab.json and merges.txt do not fit together") from error
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    for token, token_id in _added(folder):
        tokenizer.add_special_tokens([token]) if token.special else tokenizer.add_tokens([token])
        if tokenizer.token_to_id(token.content) != token_id:
            raise TokenizerUnsupported(f"{folder}: the added token {token.content} has another id than {token_id}")
    return tokenizer


def _added(folder: Path) -> list[tuple[AddedToken, int]]:
    """Added tokens and their ids, in the order of ids."""
    config = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    described = {int(token_id): each for token_id, each in config.get("added_tokens_decoder", {}).items()}
    if (folder / "added_tokens.json").is_file():
        for content, token_id in read_json(folder / "added_tokens.json").items():
            described.setdefault(token_id, {"content": content, "special": True})
    return [
        (AddedToken(each["content"], special=bool(each.get("special")), normalized=False), token_id)
        for token_id, each in sorted(described.items())
    ]
