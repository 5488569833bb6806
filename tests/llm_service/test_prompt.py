"""Prompts equal the reference's, and nothing a user writes becomes a control token."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_service.conversation import Combined, Message, Role, Visual
from llm_service.prompt import (
    GROUNDING_TAGS,
    Control,
    Frame,
    PromptBuilder,
    Segment,
    lay_out,
    render,
)
from shared.checkpoint.config import DEFAULT_SYSTEM_MESSAGE
from shared.checkpoint.tokenizer import TokenizerUnsupported
from tests.support import golden
from tests.support.tokenizer import CONTROL_TOKENS, tokenizer

TEMPLATE = golden.load("template")
TOKENS_PER_TILE = 256
INJECTED = {
    "more_placeholders_than_images",
    "image_literal_in_text_only",
    "image_literal_in_history_answer",
    "image_literal_in_system",
    "img_context_literal",
    "img_history_empty_list",
}
"""Cases where the reference takes user text for a placeholder, or loses a picture: ours differ on purpose."""


def picture(tile_count: int, *, key: str = "k") -> Visual:
    return Visual(key * 64, TOKENS_PER_TILE, (tile_count,), is_clip=False, increment=256)


def clip(*tile_counts: int) -> Visual:
    return Visual("c" * 64, TOKENS_PER_TILE, tile_counts, is_clip=True, increment=256)


def text_of(segments: Iterator[Segment] | tuple[str | Frame, ...]) -> str:
    """Segments as the reference's prompt string."""

    def written(segment: Segment) -> str:
        match segment:
            case str():
                return segment
            case Control():
                return segment.value
            case Frame():
                tokens = "<IMG_CONTEXT>" * segment.token_count
                return "<img>" * segment.opens + tokens + "</img>" * segment.closes

    return "".join(map(written, segments))


def as_given(*parts: str | Visual) -> tuple[str | Visual, ...]:
    """The same, with nothing added around images."""
    return tuple(replace(part, is_as_given=True) if isinstance(part, Visual) else part for part in parts)


def conversation(case: Any) -> list[Message]:
    """A golden case by structure: `<image>` marks where the next picture is."""
    tile_counts = iter(case["num_patches_list"] or [])

    def parts(text: str) -> tuple[str | Visual, ...]:
        pieces = re.split("(<image>)", text)
        return tuple(picture(next(tile_counts)) if piece == "<image>" else piece for piece in pieces if piece)

    question = case["question"]
    if case["history"] is None and case["num_patches_list"] and "<image>" not in question:
        question = "<image>\n" + question
    messages = [Message(Role.SYSTEM, (case["system_message"],))] if "system_message" in case else []
    for asked, answered in case["history"] or []:
        messages += [Message(Role.USER, parts(asked)), Message(Role.ASSISTANT, (answered,))]
    return [*messages, Message(Role.USER, parts(question))]


@pytest.mark.parametrize(
    "case", [case for case in TEMPLATE["chat"] if case["name"] not in INJECTED], ids=lambda case: case["name"]
)
def test_equals_the_reference(case: Any) -> None:
    text = text_of(render(conversation(case), DEFAULT_SYSTEM_MESSAGE))
    assert len(text) == case["prompt_chars"]
    assert hashlib.sha256(text.encode()).hexdigest() == case["prompt_sha256"]


@pytest.mark.parametrize(
    "case", [case for case in TEMPLATE["chat"] if case["name"] not in INJECTED], ids=lambda case: case["name"]
)
def test_as_given_equals_the_reference(case: Any) -> None:
    messages = [Message(message.role, as_given(*message.parts)) for message in conversation(case)]  # type: ignore[arg-type]
    text = text_of(render(messages, DEFAULT_SYSTEM_MESSAGE))
    assert hashlib.sha256(text.encode()).hexdigest() == case["prompt_sha256"]


def user_text(messages: list[Message]) -> str:
    """What the template's last turn of the user holds, images as `<image>`."""
    text = re.sub("<img>(<IMG_CONTEXT>)+</img>", "<image>", text_of(render(messages, "s")))
    return text.split("<|im_start|>user\n")[-1].split("<|im_end|>")[0]


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        (("What is in this picture? ", picture(2)), "What is in this picture? <image>"),
        ((picture(1), picture(1), "\nvs ", picture(1), "?"), "<image><image>\nvs <image>?"),
        ((picture(1), picture(1)), "<image><image>"),
        ((picture(1), "What?"), "<image>What?"),
        (("Before ", clip(1, 1), "after"), "Before Frame1: <image>\nFrame2: <image>after"),
    ],
    ids=["ends a line", "touch", "alone", "no break", "clip"],
)
def test_as_given_adds_nothing(parts: tuple[str | Visual, ...], wanted: str) -> None:
    assert user_text([Message(Role.USER, as_given(*parts))]) == wanted


def test_an_image_as_given_is_counted_by_the_labels_of_others() -> None:
    (given,) = as_given(picture(1))
    first = Message(Role.USER, (given, "\n"))
    assert user_text([first, Message(Role.USER, (picture(1), picture(1)))]) == "Image-2: <image>\nImage-3: <image>"


def test_a_combined_image_is_one_block_with_the_tiles_of_all() -> None:
    builder = PromptBuilder(tokenizer().backend_tokenizer, "system")
    first, second = picture(7), picture(5, key="j")
    combined = builder.build([Message(Role.USER, (Combined((first, second)), "Describe."))])
    one = builder.build([Message(Role.USER, (picture(12), "Describe."))])
    assert combined.token_ids == one.token_ids
    assert [(placed.start - one.frames[0].start, placed.frame.visual) for placed in combined.frames] == [
        (0, first),
        (7 * TOKENS_PER_TILE, second),
    ]


def test_combined_images_are_labelled_as_one() -> None:
    pair = Combined((picture(1), picture(2)))
    assert user_text([Message(Role.USER, (pair, pair, "Compare."))]) == ("Image-1: <image>\nImage-2: <image>\nCompare.")


def test_batch_chat_equals_the_reference() -> None:
    for case in TEMPLATE["batch_chat"]:
        for question, tile_count, wanted in zip(
            case["questions"], case["num_patches_list"], case["prompts_compact"], strict=True
        ):
            one = {"question": question, "num_patches_list": [tile_count], "history": None}
            text = text_of(render(conversation(one), DEFAULT_SYSTEM_MESSAGE))
            compact = re.sub("(<IMG_CONTEXT>)+", lambda run: f"<IMG_CONTEXT*{len(run[0]) // 13}>", text)
            assert compact == wanted


@pytest.mark.parametrize(
    "case", [case for case in TEMPLATE["chat"] if case["name"] not in INJECTED], ids=lambda case: case["name"]
)
def test_tokens_are_those_of_the_whole_text(case: Any) -> None:
    messages = conversation(case)
    builder = PromptBuilder(tokenizer().backend_tokenizer, DEFAULT_SYSTEM_MESSAGE)
    text = text_of(render(messages, DEFAULT_SYSTEM_MESSAGE))
    assert builder.build(messages).token_ids == tokenizer()(text, add_special_tokens=False)["input_ids"]


@given(st.lists(st.sampled_from([*CONTROL_TOKENS, "<image>", "a", "\n", " ", "好"]), max_size=12).map("".join))
def test_user_text_never_becomes_a_control_token(text: str) -> None:
    builder = PromptBuilder(tokenizer().backend_tokenizer, "system")
    prompt = builder.build([Message(Role.USER, (picture(1), "x" + text))])
    plain = builder.build([Message(Role.USER, (picture(1), "x"))])
    controlling = [token for token in CONTROL_TOKENS if token not in GROUNDING_TAGS]
    vocabulary = tokenizer().get_vocab()
    control_ids = {vocabulary[token] for token in controlling}
    controls = [token for token in prompt.token_ids if token in control_ids]
    assert controls == [token for token in plain.token_ids if token in control_ids]
    assert tokenizer().decode(prompt.token_ids).count(text) >= 1


def test_frames_are_where_the_image_tokens_are() -> None:
    builder = PromptBuilder(tokenizer().backend_tokenizer, "system")
    prompt = builder.build([Message(Role.USER, (picture(2), picture(1, key="j"), "Compare."))])
    image_token = tokenizer().convert_tokens_to_ids("<IMG_CONTEXT>")
    slots = [index for index, token in enumerate(prompt.token_ids) if token == image_token]
    spans = [range(placed.start, placed.start + placed.frame.token_count) for placed in prompt.frames]
    assert [index for span in spans for index in span] == slots
    assert [len(span) for span in spans] == [2 * TOKENS_PER_TILE, TOKENS_PER_TILE]


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        ((picture(1), "What is this?"), "<image>\nWhat is this?"),
        (("What is this?", picture(1)), "What is this?\n<image>"),
        (("Look at ", picture(1), " and answer."), "Look at <image> and answer."),
        ((picture(1), "\nWhat?"), "<image>\nWhat?"),
        ((picture(1), picture(1), "Compare."), "Image-1: <image>\nImage-2: <image>\nCompare."),
        (("Compare:", picture(1), picture(1)), "Compare:\nImage-1: <image>\nImage-2: <image>"),
        (("A: ", picture(1), "\nB: ", picture(1), "\nWhich?"), "A: <image>\nB: <image>\nWhich?"),
        ((clip(1, 1), "What happens?"), "Frame1: <image>\nFrame2: <image>\nWhat happens?"),
        ((picture(1),), "<image>"),
    ],
    ids=["first", "last", "inside", "own break", "two", "two last", "labelled by hand", "clip", "alone"],
)
def test_layout_of_a_message(parts: tuple[str | Visual, ...], wanted: str) -> None:
    (laid_out,) = lay_out([Message(Role.USER, parts)])
    assert "".join(piece if isinstance(piece, str) else "<image>" for piece in laid_out) == wanted


def test_labels_count_over_the_conversation() -> None:
    first = Message(Role.USER, (picture(1), "What is this?"))
    second = Message(Role.USER, (picture(1), picture(1), "And these?"))
    laid_out = lay_out([first, Message(Role.ASSISTANT, ("A cat.",)), second])
    assert [piece for piece in laid_out[2] if isinstance(piece, str) and piece.startswith("Image")] == [
        "Image-2: ",
        "Image-3: ",
    ]


def test_a_tokenizer_of_another_family_is_refused() -> None:
    from tokenizers import Tokenizer, models

    other = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    with pytest.raises(TokenizerUnsupported, match=r"no token <\|im_start\|>"):
        PromptBuilder(other, "system")


@pytest.mark.parametrize(
    ("roles", "wanted"),
    [
        (
            ("assistant", "user"),
            "<|im_start|>system\nD<|im_end|>\n<|im_start|>assistant\n0<|im_end|>\n<|im_start|>user\n1",
        ),
        (
            ("system", "system", "user"),
            "<|im_start|>system\n0<|im_end|>\n<|im_start|>system\n1<|im_end|>\n<|im_start|>user\n2",
        ),
        (
            ("user", "assistant", "system", "user"),
            (
                "<|im_start|>system\nD<|im_end|>\n<|im_start|>user\n0<|im_end|>\n<|im_start|>assistant\n1<|im_end|>\n"
                "<|im_start|>system\n2<|im_end|>\n<|im_start|>user\n3"
            ),
        ),
    ],
)
def test_every_message_is_a_turn_where_it_stands(roles: tuple[str, ...], wanted: str) -> None:
    messages = [Message(Role(role), (str(index),)) for index, role in enumerate(roles)]
    assert text_of(render(messages, "D")) == wanted + "<|im_end|>\n<|im_start|>assistant\n"
