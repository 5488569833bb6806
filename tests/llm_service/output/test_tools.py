"""Tools in the prompt are written as Qwen2.5's own chat template writes them, and calls as the grammar holds them."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llm_service.conversation import Message, Role
from llm_service.engine.grammar import Grammars
from llm_service.output.tool_calls import CallPiece, ToolCallParser
from llm_service.output.tool_grammar import tool_form
from llm_service.output.tools import Tool, ToolCall, ToolMode, Tools
from llm_service.prompt import Control, render
from tests.support.constrained import random_reply
from tests.support.tokenizer import core, encode, end_id

QWEN = """
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {{- messages[0]['content'] }}
    {{- "\\n\\n# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\nYou are provided with function signatures within <tools></tools> XML tags:\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\\n<tool_call>\\n{\\"name\\": <function-name>, \\"arguments\\": <args-json-object>}\\n</tool_call><|im_end|>\\n" }}
{%- else %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{{- '<|im_start|>assistant\\n' }}
"""  # noqa: E501
"""Qwen2.5's chat template, but for a default system message."""

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
LEVEL = {
    "type": "object",
    "properties": {"level": {"$ref": "#/$defs/level"}, "note": {"type": "string", "maxLength": 5}},
    "required": ["level"],
    "additionalProperties": False,
    "$defs": {"level": {"type": "integer", "minimum": 1, "maximum": 3}},
}
WEATHER = Tool("weather", "The weather in Köln.", CITY, strict=False, field="tools.tools[0]")
LIGHT = Tool("light", "", LEVEL, strict=True, field="tools.tools[1]")
BELL = Tool("bell", "Rings.", {}, strict=False, field="tools.tools[2]")


def ours(messages: list[Message], tools: list[Tool]) -> str:
    segments = render(messages, "unused", tools)
    return "".join(segment.value if isinstance(segment, Control) else str(segment) for segment in segments)


def qwens(messages: list[Message], tools: list[Tool]) -> str:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(QWEN).render(
        messages=[_plain(message) for message in messages],
        tools=[
            {
                "type": "function",
                "function": {
                    key: value
                    for key, value in (
                        ("name", tool.name), ("description", tool.description), ("parameters", tool.parameters)
                    )
                    if value
                },
            }
            for tool in tools
        ],
    )  # fmt: skip


def _plain(message: Message) -> dict[str, Any]:
    calls = [{"name": call.name, "arguments": json.loads(call.arguments)} for call in message.tool_calls]
    return {"role": message.role.value, "content": message.text, "tool_calls": calls}


SYSTEM, ASK = Message(Role.SYSTEM, ("Be kind.",)), Message(Role.USER, ("How is it?",))
CALLS = (ToolCall("weather", '{"city":"Köln"}'), ToolCall("light", '{"level": 2}'))
RESULTS = [Message(Role.TOOL, ('{"rain": true}',)), Message(Role.TOOL, ("done",))]


@pytest.mark.parametrize(
    "messages",
    [
        [SYSTEM, ASK],
        [SYSTEM, ASK, Message(Role.ASSISTANT, ("Wait.",), CALLS), *RESULTS],
        [SYSTEM, ASK, Message(Role.ASSISTANT, (), CALLS[:1]), RESULTS[0], Message(Role.ASSISTANT, ("Rain.",)), ASK],
        [SYSTEM, ASK, Message(Role.SYSTEM, ("Be brief.",)), ASK],
        [SYSTEM, Message(Role.ASSISTANT, ("Hi!",)), ASK],
    ],
)
@pytest.mark.parametrize("tools", [[], [WEATHER], [WEATHER, LIGHT, BELL]], ids=len)
def test_the_prompt_is_qwens(messages: list[Message], tools: list[Tool]) -> None:
    assert ours(messages, tools) == qwens(messages, tools)


def test_a_further_system_message_is_a_turn_of_its_own() -> None:
    text = ours([SYSTEM, Message(Role.SYSTEM, ("Be brief.",)), ASK], [])
    assert text.startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>system\nBe brief.<|im_end|>\n")


@pytest.fixture(scope="module")
def grammars() -> Iterator[Grammars]:
    grammars = Grammars(core(), STOP)
    yield grammars
    grammars.close()


STOP = end_id()
SCHEMAS = {"weather": CITY, "light": LEVEL, "bell": {"type": "object", "maxProperties": 0}}


def calls_of(grammars: Grammars, tools: Tools, seed: int) -> tuple[str, list[tuple[str, Any]]] | None:
    """Text and calls of a random reply; None if it did not end."""
    form = tool_form(tools, lambda tag: core().token_to_id(tag) is not None)
    assert form is not None
    reply = random_reply(grammars, form.grammar, seed=seed, stop_token_id=STOP, vocabulary=300, max_tokens=500)
    if not reply.has_ended:
        return None
    parser = ToolCallParser()
    pieces = parser.add(core().decode(reply.token_ids)) + parser.finish()
    calls: dict[int, list[str]] = {}
    for piece in pieces:
        if isinstance(piece, CallPiece):
            calls.setdefault(piece.index, [piece.name, ""])[1] += piece.arguments
    text = "".join(piece for piece in pieces if isinstance(piece, str))
    return text, [(name, json.loads(arguments)) for name, arguments in calls.values()]


@pytest.mark.parametrize("is_parallel", [True, False])
@pytest.mark.parametrize("choice", [ToolMode.REQUIRED, "light"])
def test_required_calls_are_held_to_their_schemas(
    grammars: Grammars, choice: ToolMode | str, is_parallel: bool
) -> None:
    replies = [
        calls_of(grammars, Tools([WEATHER, LIGHT, BELL], choice, is_parallel=is_parallel), seed) for seed in range(8)
    ]
    ended = [reply for reply in replies if reply is not None]
    assert ended
    for text, calls in ended:
        assert not text
        assert calls
        assert len(calls) == 1 or (is_parallel and isinstance(choice, ToolMode))
        for name, arguments in calls:
            assert isinstance(choice, ToolMode) or name == choice
            jsonschema.validate(arguments, SCHEMAS[name])


def test_with_a_strict_tool_text_is_free_and_calls_are_held(grammars: Grammars) -> None:
    form = tool_form(Tools([WEATHER, LIGHT]), lambda tag: False)
    assert form is not None
    grammar = grammars.compile(form.grammar).result()
    good = 'Yes: <tool_call>\n{"name": "light", "arguments": {"level": 2}}\n</tool_call> done'
    free = '<tool_call>\n{"name": "weather", "arguments": {"anything": [1]}}\n</tool_call>'
    for text in ("hello <b> { world", good, free):
        assert grammar.allows([*encode(text), STOP]), text
    for bad in (good.replace("2", "7"), good.replace("light", "lamp"), good.replace('{"level": 2}', "5")):
        assert not grammar.allows(encode(bad)), bad


def test_nothing_is_held_where_nothing_is_strict() -> None:
    assert tool_form(Tools([WEATHER, BELL]), lambda tag: True) is None
    assert tool_form(Tools([LIGHT], ToolMode.NONE), lambda tag: True) is None
