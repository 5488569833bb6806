"""The demo model's tokenizer: a byte-level BPE as Qwen2's, only smaller, trained on the demo's own conversations.

Any text can be encoded, since every byte is a token of its own. Ids are laid out as in InternVL3: the merged pieces
first, then the special tokens.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX, Qwen2Tokenizer

from deploy.local.demo_model import phrases
from deploy.local.demo_model.conversations import Questions
from deploy.local.demo_model.digits import Split
from deploy.local.demo_model.model import SYSTEM_MESSAGE, TRAINED_WINDOW
from deploy.local.demo_model.scenes import DIGITS, SceneMaker

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

MAX_PIECES = 1012
CORPUS_SIZE = 20_000


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
    rng = np.random.default_rng(0)
    maker, questions = SceneMaker(Split.TRAIN, rng), Questions(rng)
    size = (112, 112)
    yield from [SYSTEM_MESSAGE, "system\n", "user\n", "assistant\n", "\n", *DIGITS] * 50
    yield from [f"Frame{number}: " for number in range(1, 9)] * 50
    yield from ["Image-1: ", "Image-2: "] * 50
    for answer, wordings in phrases.SMALL_TALK.items():
        yield from [text for wording in wordings for text in (answer, wording, wording.lower())]
    for _ in range(CORPUS_SIZE // 5):
        one, other = maker.digit(size), maker.same(1, size)
        turns = [
            questions.about(one),
            questions.about(maker.groups(size)),
            questions.about(maker.different(3, size)),
            questions.about_two(one, other),
            questions.about_clip(other.things[0], str(rng.choice(["left", "right", "up", "down"]))),
            questions.without_picture(),
        ]
        for turn in turns:
            yield turn.question
            yield turn.answer
