"""The table of what a request must be."""

import pytest
from google.protobuf import text_format

from gateway.request_limits import RequestLimits
from gateway.validation import check_request
from internvl.chat.v1 import chat_pb2
from internvl.errors import BadMessages, BadOption, InvalidRequest
from internvl.increments import INCREMENTS

LIMITS = RequestLimits(message_count=4, part_count=3, media_count=2, inline_media_bytes=100)
USER = "messages { role: ROLE_USER parts { text: 'hi' } }"
ASSISTANT = "messages { role: ROLE_ASSISTANT parts { text: 'hello' } }"
SYSTEM = "messages { role: ROLE_SYSTEM parts { text: 'be brief' } }"
CALL = "messages { role: ROLE_ASSISTANT tool_calls { id: 'a' name: 'f' arguments: '{}' } }"
TOOL = "messages { role: ROLE_TOOL tool_call_id: 'a' parts { text: 'done' } }"


def request_of(text: str) -> chat_pb2.ChatRequest:
    return text_format.Parse(text, chat_pb2.ChatRequest())


def picture(options: str) -> str:
    return f"messages {{ role: ROLE_USER parts {{ text: 'a' }} parts {{ image {{ data: 'x' {options} }} }} }}"


def combined(content: str) -> str:
    return f"messages {{ role: ROLE_USER parts {{ combined {{ {content} }} }} }}"


def clip(options: str) -> str:
    return f"messages {{ role: ROLE_USER parts {{ video {{ data: 'x' frames {{ {options} }} }} }} }}"


@pytest.mark.parametrize(
    ("text", "error", "field"),
    [
        ("", BadMessages, "messages"),
        (USER * 5, BadMessages, "messages"),
        ("messages { parts { text: 'hi' } }", BadMessages, "messages[0].role"),
        (USER + "messages { role: 9 parts { text: 'hi' } }", BadMessages, "messages[1].role"),
        (USER + ASSISTANT, BadMessages, "messages[1].role"),
        (SYSTEM, BadMessages, "messages[0].role"),
        (
            "messages { role: ROLE_USER parts { text: 'a' } tool_calls { name: 'f' } }",
            BadMessages,
            "messages[0].tool_calls",
        ),
        (
            "messages { role: ROLE_ASSISTANT tool_calls { id: 'a' } }" + USER,
            BadMessages,
            "messages[0].tool_calls[0].name",
        ),
        (USER + TOOL, BadMessages, "messages[1].tool_call_id"),
        (CALL + TOOL + TOOL, BadMessages, "messages[2].tool_call_id"),
        ("messages { role: ROLE_USER parts { text: 'a' } tool_call_id: 'a' }", BadMessages, "messages[0].tool_call_id"),
        (USER + "tools { tools { name: 'a b' } }", BadOption, "tools.tools[0].name"),
        (USER + "tools { tools { name: 'f' } tools { name: 'f' } }", BadOption, "tools.tools[1].name"),
        (USER + "tools { tools { name: 'f' } choice { name: 'g' } }", BadOption, "tools.choice.name"),
        (USER + "tools { choice { mode: TOOL_MODE_REQUIRED } }", BadOption, "tools.choice.mode"),
        (USER + "tools { tools { name: 'f' } } sampling { output { regex: 'a' } }", BadOption, "sampling.output"),
        (USER + "sampling { min_tokens: 2 output { regex: 'a' } }", BadOption, "sampling.min_tokens"),
        (USER + "sampling { min_tokens: 9 max_tokens: 8 }", BadOption, "sampling.min_tokens"),
        (USER + "sampling { logit_bias { key: 1 value: 101 } }", BadOption, "sampling.logit_bias"),
        (USER + SYSTEM, BadMessages, "messages[1].role"),
        ("messages { role: ROLE_USER }", BadMessages, "messages[0].parts"),
        ("messages { role: ROLE_USER " + "parts { text: 'a' }" * 4 + "}", BadMessages, "messages[0].parts"),
        ("messages { role: ROLE_USER parts { } }", BadMessages, "messages[0].parts[0]"),
        (
            USER + "messages { role: ROLE_ASSISTANT parts { image { data: 'x' } } }" + USER,
            BadMessages,
            "messages[1].parts[0].image",
        ),
        (
            "messages { role: ROLE_SYSTEM parts { video { data: 'x' } } }" + USER,
            BadMessages,
            "messages[0].parts[0].video",
        ),
        (
            picture("visual { position_increment: 0.3 }"),
            BadOption,
            "messages[0].parts[1].image.visual.position_increment",
        ),
        (
            picture("visual { position_increment: nan }"),
            BadOption,
            "messages[0].parts[1].image.visual.position_increment",
        ),
        (picture("visual { max_tile_count: 0 }"), BadOption, "messages[0].parts[1].image.visual.max_tile_count"),
        (USER + "visual { position_increment: 2 }", BadOption, "visual.position_increment"),
        (USER + "visual { layout: 7 }", BadOption, "visual.layout"),
        (combined(""), BadMessages, "messages[0].parts[0].combined.images"),
        (
            combined("images { data: 'x' } visual { position_increment: 3 }"),
            BadOption,
            "messages[0].parts[0].combined.visual.position_increment",
        ),
        (
            combined("images { data: 'x' } images { visual { layout: LAYOUT_LINES } }"),
            BadOption,
            "messages[0].parts[0].combined.images[1].visual",
        ),
        (
            combined("images { visual { auto_increment { } } }"),
            BadOption,
            "messages[0].parts[0].combined.images[0].visual",
        ),
        (USER + "visual { max_tile_count: -1 }", BadOption, "visual.max_tile_count"),
        (clip("frame_count: 0"), BadOption, "messages[0].parts[0].video.frames.frame_count"),
        (clip("start_seconds: -1"), BadOption, "messages[0].parts[0].video.frames.start_seconds"),
        (clip("start_seconds: 2 end_seconds: 2"), BadOption, "messages[0].parts[0].video.frames.end_seconds"),
        (clip("end_seconds: inf"), BadOption, "messages[0].parts[0].video.frames.end_seconds"),
        (USER + "sampling { max_tokens: 0 }", BadOption, "sampling.max_tokens"),
        (USER + "sampling { temperature: -0.1 }", BadOption, "sampling.temperature"),
        (USER + "sampling { temperature: nan }", BadOption, "sampling.temperature"),
        (USER + "sampling { top_p: 0 }", BadOption, "sampling.top_p"),
        (USER + "sampling { top_p: 1.1 }", BadOption, "sampling.top_p"),
        (USER + "sampling { top_k: -1 }", BadOption, "sampling.top_k"),
        (USER + "sampling { min_p: 1.5 }", BadOption, "sampling.min_p"),
        (USER + "sampling { repetition_penalty: 0 }", BadOption, "sampling.repetition_penalty"),
        (USER + "sampling { presence_penalty: inf }", BadOption, "sampling.presence_penalty"),
        (USER + "sampling { frequency_penalty: 101 }", BadOption, "sampling.frequency_penalty"),
        (USER + "sampling { top_logprob_count: 21 }", BadOption, "sampling.top_logprob_count"),
        (USER + "sampling { stop: '' }", BadOption, "sampling.stop"),
        (USER + "sampling {" + "stop: 'x' " * 17 + "}", BadOption, "sampling.stop"),
    ],
)
def test_refused_with_the_field_at_fault(text: str, error: type[InvalidRequest], field: str) -> None:
    with pytest.raises(error) as caught:
        check_request(request_of(text), LIMITS)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "text",
    [
        USER,
        SYSTEM + USER + ASSISTANT + USER,
        USER + "messages { role: ROLE_ASSISTANT }" + USER,
        USER + USER,
        picture("visual { auto_increment { } max_tile_count: 12 }"),
        combined("images { data: 'x' visual { max_tile_count: 2 } } visual { layout: LAYOUT_AS_GIVEN }"),
        clip("frame_count: 8 start_seconds: 0 end_seconds: 1.5"),
        USER + "sampling { temperature: 0 top_p: 1 top_k: 0 min_p: 0 top_logprob_count: 0 seed: 0 stop: 'end' }",
    ],
)
def test_accepted(text: str) -> None:
    check_request(request_of(text), LIMITS)


@pytest.mark.parametrize("increment", sorted(INCREMENTS))
def test_every_power_of_two_down_to_a_256th_is_an_increment(increment: float) -> None:
    check_request(request_of(picture(f"visual {{ position_increment: {increment!r} }}")), LIMITS)


def test_there_are_nine_increments() -> None:
    assert (len(INCREMENTS), min(INCREMENTS), max(INCREMENTS)) == (9, 1 / 256, 1.0)
