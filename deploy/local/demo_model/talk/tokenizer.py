"""The demo model's tokenizer: a byte-level BPE as Qwen2's, only smaller, trained on the demo's own conversations.

Any text can be encoded, since every byte is a token of its own. Ids are laid out as in InternVL3: the merged pieces
first, then the special tokens.
"""

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX, Qwen2Tokenizer

from deploy.local.demo_model.model import SYSTEM_MESSAGE, TRAINED_WINDOW
from deploy.local.demo_model.talk.questions.tools import TOOLS, system_message
from deploy.local.demo_model.talk.sampling import sample_turns

END_OF_TEXT = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
IMG_START = "<img>"
IMG_END = "</img>"
IMG_CONTEXT = "<IMG_CONTEXT>"
SPECIAL_TOKENS = (
    END_OF_TEXT, IM_START, IM_END, IMG_START, IMG_END, IMG_CONTEXT,
    "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>",
)  # fmt: skip

TOOL_TOKENS = ("<tool_call>", "</tool_call>")
"""Tokens of their own, but not special: they stay in a reply's text, as with Qwen2.5."""

MAX_PIECES = 1200
CORPUS_SIZE = 24_000
_PRINTED = re.compile(r"[A-Z]{2,}")
_TAG = re.compile(r"</?(ref|box|tool_call)>")


def train() -> PreTrainedTokenizerFast:
    """The tokenizer, the same one at every call."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated", invert=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=MAX_PIECES,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(_corpus(), trainer)
    bpe.add_tokens([AddedToken(token, special=False, normalized=False) for token in TOOL_TOKENS])
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bpe,
        eos_token=IM_END,
        pad_token=END_OF_TEXT,
        additional_special_tokens=list(SPECIAL_TOKENS[3:]),
        model_max_length=TRAINED_WINDOW,
        clean_up_tokenization_spaces=False,
    )


def save(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the files that `AutoTokenizer` loads as a Qwen2 tokenizer."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "tokenizer_class": Qwen2Tokenizer.__name__}, indent=2) + "\n")


def load(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder that `save` wrote."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return tokenizer


def _corpus() -> Iterator[str]:
    """The demo's own questions and answers. Capitals are left out, so that printed words stay a token a letter."""
    yield from [SYSTEM_MESSAGE, "system\n", "user\n", "assistant\n", "\n", *"0123456789"] * 50
    yield from [f"Frame{number}: " for number in range(1, 9)] * 50
    yield from [f"Image-{number}: " for number in range(1, 5)] * 50
    yield from [system_message([tool.signature(name) for tool in TOOLS for name in tool.names])] * 200
    turns = sample_turns(np.random.default_rng(0))
    for turn in islice(turns, CORPUS_SIZE):
        yield _PRINTED.sub(" ", turn.question)
        yield _PRINTED.sub(" ", _TAG.sub("", turn.answer))
