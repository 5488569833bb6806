"""Tools, forms and regions over gRPC: what a session sends, and what it hears."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from internvl.client import (
    ChatClient,
    ChatSession,
    Choice,
    Delta,
    Finished,
    Image,
    JsonObject,
    JsonSchema,
    Lark,
    Regex,
    Region,
    Sampling,
    Tool,
    ToolCall,
    ToolCallDelta,
    Tools,
)
from internvl.client.events import Event, Started, Timing, Usage
from internvl.client.output import Output
from internvl.client.resend import Seen
from internvl.client.tools import ToolCalls
from internvl.common.v1 import tools_pb2, visual_pb2
from internvl.errors import BackendUnavailable
from tests.support.fakes import FakeLlm

WEATHER = Tool("weather", "Tells.", {"type": "object", "properties": {"city": {"type": "string"}}})
CALLS = [
    tools_pb2.ToolCallDelta(index=0, name="weather"),
    tools_pb2.ToolCallDelta(index=0, arguments='{"city": '),
    tools_pb2.ToolCallDelta(index=0, arguments='"Köln"}'),
    tools_pb2.ToolCallDelta(index=1, name="weather"),
    tools_pb2.ToolCallDelta(index=1, arguments="{}"),
]


async def test_a_session_calls_tools_and_gives_results(client: ChatClient, llm: FakeLlm) -> None:
    session = ChatSession(client, tools=Tools((WEATHER,), choice=WEATHER, parallel=False))
    llm.words = ["Wait. ", *CALLS]
    *_, finished = [event async for event in session.ask("How is it?")]
    assert isinstance(finished, Finished)
    assert finished.reason == "tool_calls"
    first, second = session.calls
    assert (first.name, json.loads(first.arguments), second.arguments) == ("weather", {"city": "Köln"}, "{}")
    llm.words = ["It rains."]
    text = [
        event.text
        async for event in session.give_results({first.id: "rain", second.id: "sun"})
        if isinstance(event, Delta)
    ]
    assert (text, session.calls) == (["It rains."], ())
    sent = llm.requests[-1]
    assert (sent.tools.choice.name, sent.tools.parallel) == ("weather", False)
    assert [message.role for message in sent.messages][2:] == [visual_pb2.ROLE_TOOL] * 2
    assert [call.arguments for call in sent.messages[1].tool_calls] == ['{"city": "Köln"}', "{}"]


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        (JsonObject(), "json_object"),
        (JsonSchema({"type": "null"}), "json_schema"),
        (Regex("a"), "regex"),
        (Choice(("a", "b")), "choice"),
        (Lark('start: "a"'), "lark"),
    ],
)
async def test_forms(client: ChatClient, llm: FakeLlm, output: Output, kind: str) -> None:
    session = ChatSession(client, sampling=Sampling(output=output, logit_bias={5: 1.0}, stop_token_ids=(7,)))
    [event async for event in session.ask("?")]
    sampling = llm.requests[0].sampling
    assert sampling.output.WhichOneof("format") == kind
    assert (dict(sampling.logit_bias), list(sampling.stop_token_ids)) == ({5: 1.0}, [7])


async def test_regions(client: ChatClient, llm: FakeLlm) -> None:
    llm.words = ["<ref>car</ref><box>[[100, 100, ", "200, 500]]</box>"]
    deltas = [event async for event in ChatSession(client).ask(Image(b"x"), "Where?") if isinstance(event, Delta)]
    (region,) = [region for delta in deltas for region in delta.regions]
    assert region == Region("car", 0, (100, 100, 200, 500), (64, 48, 128, 240), (96, 144))


async def test_a_reply_that_moves_keeps_its_calls(client: ChatClient, llm: FakeLlm) -> None:
    """Replicas that fail after each word: the ids are the gateway's."""
    llm.words = [*CALLS]
    llm.late_failures = [BackendUnavailable("gone")] * 2
    session = ChatSession(client, tools=Tools((WEATHER,)))
    [event async for event in session.ask("?")]
    assert [call.arguments for call in session.calls] == ['{"city": "Köln"}', "{}"]
    assert len({call.id for call in session.calls}) == 2


PIECES = [
    Delta("Wait."),
    Delta("", tool_calls=(ToolCallDelta(0, "a", "f", ""),)),
    Delta("", tool_calls=(ToolCallDelta(0, "", "", '{"x'),)),
    Delta(" And", tool_calls=(ToolCallDelta(0, "", "", '": 1}'), ToolCallDelta(1, "b", "g", "{}"))),
    Delta("!", regions=(Region("", None, (0, 0, 1, 1), None, None),)),
]


@given(cuts=st.lists(st.integers(0, 7), max_size=4))
def test_calls_and_regions_come_once(cuts: list[int]) -> None:
    reply: list[Event] = [Started("id", "m", ()), *PIECES, Finished("stop", Usage(1, 0, 0, 3, ()), Timing(0, 0, 0))]
    seen, heard = Seen(), list[Event]()
    for cut in [*cuts, len(reply)]:
        seen.begin()
        heard += [news for event in reply[:cut] if (news := seen.news(event)) is not None]
        if cut >= len(reply):
            break
    assert heard == reply
    calls = ToolCalls()
    for event in heard:
        for call in event.tool_calls if isinstance(event, Delta) else ():
            calls.add(call)
    assert calls.calls == (ToolCall("a", "f", '{"x": 1}'), ToolCall("b", "g", "{}"))
