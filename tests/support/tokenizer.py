"""A byte-level tokenizer with InternVL's control tokens: every text encodes, and no file is needed."""

from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

CONTROL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>",
    "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>",
)  # fmt: skip
MERGES = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "t"), ("ä", "½"), ("ð", "Ł")]
"""A few, so that a token may be a word, or part of a character."""


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """About 275 tokens: the bytes, a few merges, the control tokens."""
    pieces = [*bytes_to_unicode().values(), *(left + right for left, right in MERGES)]
    core = Tokenizer(models.BPE(vocab={piece: index for index, piece in enumerate(pieces)}, merges=MERGES))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def write_tokenizer(folder: Path) -> None:
    """Writes it as a checkpoint carries it."""
    tokenizer().save_pretrained(folder)


def core() -> Tokenizer:
    """The same as services load it."""
    backend: Tokenizer = tokenizer().backend_tokenizer
    return backend


def encode(text: str) -> list[int]:
    """Token ids of a text, special tokens in it included."""
    return core().encode(text, add_special_tokens=False).ids


def end_id() -> int:
    """The token that ends a reply."""
    token_id = core().token_to_id("<|im_end|>")
    assert token_id is not None
    return token_id
