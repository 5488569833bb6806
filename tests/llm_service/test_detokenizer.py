"""Text comes whole: no half characters, nothing past a stop string, trimmed as the reference trims."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_service.detokenizer import Detokenizer, token_bytes
from tests.support import golden
from tests.support.tokenizer import tokenizer

CORE = tokenizer().backend_tokenizer


def ids_of(text: str) -> list[int]:
    return list(tokenizer()(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def streamed(text: str, stop: list[str] | None = None) -> list[str]:
    detokenizer = Detokenizer(CORE, stop or [])
    pieces = []
    for token_id in ids_of(text):
        pieces.append(detokenizer.add(token_id))
        if detokenizer.is_stopped:
            return pieces
    return [*pieces, detokenizer.finish()]


@given(st.text())
def test_pieces_add_up_to_the_trimmed_text(text: str) -> None:
    assert "".join(streamed(text)) == text.strip()


@given(st.text(alphabet="好🐼é a\n", max_size=30))
def test_no_piece_holds_half_a_character(text: str) -> None:
    assert all("\ufffd" not in piece for piece in streamed(text))


@given(st.text(alphabet="ab \n", max_size=30), st.lists(st.text(alphabet="ab \n", min_size=1, max_size=4), max_size=3))
def test_ends_before_the_first_stop_string(text: str, stop: list[str]) -> None:
    """The reference for it: look for the stop strings in the whole text, token by token, and cut."""
    wanted = text.strip()
    seen = ""
    for character in text.lstrip():
        seen += character
        found = [seen.find(one) for one in stop if one in seen]
        if found:
            wanted = seen[: min(found)].strip()
            break
    assert "".join(streamed(text, stop)) == wanted


@pytest.mark.parametrize("case", golden.load("template")["response_trim"], ids=lambda case: repr(case["raw"]))
def test_trims_as_the_reference(case: Any) -> None:
    reply = case["raw"].split("<|im_end|>")[0]  # the engine ends a reply at this token
    assert "".join(streamed(reply)) == case["trimmed"]


def test_grounding_tags_stay() -> None:
    detokenizer = Detokenizer(CORE)
    tokens = tokenizer()("<ref>the car</ref><box>[[1, 2]]</box>", add_special_tokens=False)["input_ids"]
    text = "".join(detokenizer.add(token) for token in tokens) + detokenizer.finish()
    assert text == "<ref>the car</ref><box>[[1, 2]]</box>"


@given(st.text(min_size=1, max_size=20))
def test_token_bytes_add_up(text: str) -> None:
    assert b"".join(token_bytes(CORE, token_id) for token_id in ids_of(text)) == text.encode()


def test_a_reply_cut_inside_a_character_drops_the_half() -> None:
    detokenizer = Detokenizer(CORE)
    pieces = [detokenizer.add(token_id) for token_id in ids_of("ok🐼")[:-1]]
    assert "".join(pieces) + detokenizer.finish() == "ok"
