"""What a body must be, told in the client's own words."""

import json
from typing import Any

import pytest

from gateway.openai_api.body import read_body
from internvl.errors import InvalidRequest

LEAST: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def asking(part: object) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [part]}]}


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"temprature": 1}, "temprature"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_completion_tokens": 2**31}, "max_completion_tokens"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"seed": 2**64}, "seed"),
        ({"stop": [1]}, "stop[0]"),
        ({"stream_options": {"include": True}}, "stream_options.include"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        (asking({"type": "input_audio"}), "messages[0].content[0]"),
        (asking({"type": "text"}), "messages[0].content[0].text"),
        (asking({"type": "text", "text": None}), "messages[0].content[0].text"),
        (asking({"type": "image_url", "image_url": 5}), "messages[0].content[0].image_url"),
        (asking({"type": "image_url", "image_url": {"url": 5}}), "messages[0].content[0].image_url.url"),
        (asking({"type": "image_url", "image_url": {}}), "messages[0].content[0].image_url.url"),
        (asking({"type": "video_url", "video_url": {"url": "x", "fps": 1}}), "messages[0].content[0].video_url.fps"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"logit_bias": {"1": "much"}}, 'logit_bias["1"]'),
        ({"skip_special_tokens": False}, "skip_special_tokens"),
        ({"echo": True}, "echo"),
        ({"best_of": 2}, "best_of"),
        ({"top_k": -2}, "top_k"),
        ({"position_increment": "automatic"}, "position_increment"),
    ],
)
def test_a_field_that_cannot_be_is_named(more: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_body(json.dumps(LEAST | more).encode())
    assert refused.value.field == field
    assert len(refused.value.message) <= 200


@pytest.mark.parametrize("field", ["model", "messages"])
def test_a_field_that_must_be_is_named(field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_body(json.dumps({name: value for name, value in LEAST.items() if name != field}).encode())
    assert (refused.value.field, refused.value.message) == (field, "the field is missing")


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff", b"[" * 100_000, b'{"model": "\\ud800", "messages": []}', b'{"a": NaN', b"[]", b"null", b"5"],
)
def test_what_is_no_json_object(data: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_body(data)
    assert refused.value.field is None


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [], "tool_choice": "auto", "parallel_tool_calls": False},
        {"response_format": {"type": "text"}, "logit_bias": {}, "modalities": ["text"]},
        {"user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"},
        dict.fromkeys(("stream", "n", "stop", "seed", "tools", "max_tokens", "stream_options", "logprobs")),
        {"temperature": 1, "seed": -(2**63)},
        {"max_tokens": 16.0, "seed": 1.0, "n": 1.0, "top_k": -1, "stop": ""},
        {"foo": None, "stream_options": {"continuous_usage_stats": True, "bar": None}},
        {"best_of": 1, "echo": False, "length_penalty": 1.0, "use_beam_search": False, "skip_special_tokens": True},
        {"chat_template_kwargs": {}, "mm_processor_kwargs": {}, "add_generation_prompt": True, "bad_words": []},
        asking({"type": "image_url", "image_url": "data:,"}),
        asking({"type": "image_url", "image_url": {"url": "x", "detail": "original"}}),
        asking({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}, "uuid": "u"}),
        {"messages": [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}]},
    ],
)
def test_fields_that_ask_for_nothing_are_let_through(more: dict[str, Any]) -> None:
    assert read_body(json.dumps(LEAST | more).encode()).model == "m"
