"""The tokenizer of the released checkpoints: Qwen2.5's vocabulary with InternVL3's added tokens.

The vocabulary comes from a data file of the package dashscope, one line a token: its bytes in base64, and its rank.
The package itself is never imported.
"""

import base64
from importlib.metadata import distribution
from pathlib import Path

from tokenizers import AddedToken
from transformers import Qwen2Tokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

STOP_TOKEN_ID = 151645
IMAGE_TOKEN_ID = 151667
VOCABULARY_SIZE = 151674
_BASE_SIZE = 151643
_SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
_PLAIN = (
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
    "<|repo_name|>", "<|file_sep|>",
)  # fmt: skip
"""Added, but not special: they are shown when a reply is decoded."""
_INTERNVL = (
    "<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>",
)  # fmt: skip


def tokenizer() -> Qwen2Tokenizer:
    """All 151,674 tokens under their released ids."""
    ranks = _ranks()
    assert len(ranks) == _BASE_SIZE
    letters: dict[int, str] = bytes_to_unicode()  # type: ignore[no-untyped-call]
    written = {piece: "".join(letters[byte] for byte in piece) for piece in ranks}
    vocabulary = {written[piece]: rank for piece, rank in ranks.items()}
    merges = [(written[left], written[right]) for left, right in _merges(ranks)]
    made = Qwen2Tokenizer(vocab=vocabulary, merges=merges, model_max_length=12288)  # type: ignore[arg-type]
    for tokens, special in ((_SPECIAL, True), (_PLAIN, False), (_INTERNVL, True)):
        made.add_tokens([AddedToken(token, special=special, normalized=False) for token in tokens])
    made.eos_token = "<|im_end|>"  # only now: a tokenizer adds the end token it is made with before all others
    assert len(made) == VOCABULARY_SIZE
    return made


def _ranks() -> dict[bytes, int]:
    """Token to rank, which is also its id."""
    path = Path(str(distribution("dashscope").locate_file("dashscope/resources/qwen.tiktoken")))
    lines = (line.split() for line in path.read_bytes().splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def _merges(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Every pair of tokens that makes a token, the lowest rank first: what the ranks mean, as pairs."""
    merges = []
    for piece in ranks:  # in order of rank
        splits = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
        pairs = [(left, right) for left, right in splits if left in ranks and right in ranks]
        merges += sorted(pairs, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
    return merges
