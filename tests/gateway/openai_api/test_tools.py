"""Tools, forms and regions through OpenAI's own client over real HTTP."""

import json
from typing import Any

import openai
import pydantic
import pytest

from internvl.common.v1 import tools_pb2, visual_pb2
from internvl.errors import GrammarInvalid
from tests.gateway.openai_api.conftest import MODEL
from tests.gateway.openai_api.test_completions import HELLO, asking, picture
from tests.support.fakes import FakeLlm

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: Any = {"type": "function", "function": {"name": "weather", "description": "Tells.", "parameters": PARAMETERS}}
CALLS = [
    tools_pb2.ToolCallDelta(index=0, name="weather"),
    tools_pb2.ToolCallDelta(index=0, arguments='{"city": '),
    tools_pb2.ToolCallDelta(index=0, arguments='"Köln"}'),
    tools_pb2.ToolCallDelta(index=1, name="weather"),
    tools_pb2.ToolCallDelta(index=1, arguments="{}"),
]


async def test_calls_of_a_whole_reply(openai_client: openai.AsyncOpenAI, llm: FakeLlm) -> None:
    llm.words = [*CALLS]
    completion = await openai_client.chat.completions.create(model=MODEL, messages=HELLO, tools=[WEATHER])
    (choice,) = completion.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    first, second = choice.message.tool_calls or []
    assert first.type == "function"
    assert (first.function.name, json.loads(first.function.arguments)) == ("weather", {"city": "Köln"})
    assert first.id != second.id
    (request,) = llm.requests
    assert [tool.name for tool in request.tools.tools] == ["weather"]
    assert json.loads(request.tools.tools[0].parameters) == PARAMETERS


async def test_calls_stream(openai_client: openai.AsyncOpenAI, llm: FakeLlm) -> None:
    llm.words = ["Wait. ", *CALLS]
    async with openai_client.chat.completions.stream(model=MODEL, messages=HELLO, tools=[WEATHER]) as stream:
        arguments = [
            event.arguments_delta async for event in stream if event.type == "tool_calls.function.arguments.delta"
        ]
    completion = await stream.get_final_completion()
    (choice,) = completion.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Wait. ")
    assert [call.function.arguments for call in choice.message.tool_calls or []] == ['{"city": "Köln"}', "{}"]
    assert len(arguments) >= 3


async def test_results_go_back(openai_client: openai.AsyncOpenAI, llm: FakeLlm) -> None:
    llm.words = [*CALLS[:3]]
    messages: list[Any] = [*HELLO]
    completion = await openai_client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER])
    message = completion.choices[0].message
    (call,) = message.tool_calls or []
    llm.words = ["It rains."]
    messages += [message, {"role": "tool", "tool_call_id": call.id, "content": '{"rain": true}'}]
    completion = await openai_client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER])
    assert completion.choices[0].message.content == "It rains."
    _, called, result = llm.requests[-1].messages
    assert (called.tool_calls[0].name, called.tool_calls[0].arguments) == ("weather", '{"city": "Köln"}')
    assert (result.role, result.parts[0].text) == (visual_pb2.ROLE_TOOL, '{"rain": true}')


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        ("auto", tools_pb2.ToolChoice(mode=tools_pb2.TOOL_MODE_AUTO)),
        ("none", tools_pb2.ToolChoice(mode=tools_pb2.TOOL_MODE_NONE)),
        ("required", tools_pb2.ToolChoice(mode=tools_pb2.TOOL_MODE_REQUIRED)),
        ({"type": "function", "function": {"name": "weather"}}, tools_pb2.ToolChoice(name="weather")),
    ],
)
async def test_who_decides(
    openai_client: openai.AsyncOpenAI, llm: FakeLlm, choice: Any, wanted: tools_pb2.ToolChoice
) -> None:
    await openai_client.chat.completions.create(
        model=MODEL, messages=HELLO, tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False
    )
    (request,) = llm.requests
    assert request.tools.choice == wanted
    assert not request.tools.parallel


class Answer(pydantic.BaseModel):
    """What is asked for."""

    count: int
    shapes: list[str]


async def test_a_parsed_reply(openai_client: openai.AsyncOpenAI, llm: FakeLlm) -> None:
    llm.words = ['{"count": 2, ', '"shapes": ["circle"]}']
    completion = await openai_client.chat.completions.parse(model=MODEL, messages=HELLO, response_format=Answer)
    assert completion.choices[0].message.parsed == Answer(count=2, shapes=["circle"])
    schema = json.loads(llm.requests[0].sampling.output.json_schema)
    assert list(schema["properties"]) == ["count", "shapes"]


@pytest.mark.parametrize(
    ("more", "kind", "value"),
    [
        ({"response_format": {"type": "json_object"}}, "json_object", None),
        ({"guided_regex": "a+"}, "regex", "a+"),
        ({"guided_choice": ["a", "b"]}, "choice", ["a", "b"]),
        ({"guided_grammar": 'start: "a"'}, "lark", 'start: "a"'),
        ({"guided_json": {"type": "null"}}, "json_schema", '{"type": "null"}'),
        ({"guided_json": '{"type": "null"}'}, "json_schema", '{"type": "null"}'),
        ({"structured_outputs": {"choice": ["a"]}}, "choice", ["a"]),
        ({"structured_outputs": {"json": {}}}, "json_schema", "{}"),
        ({"response_format": {"type": "text"}}, None, None),
    ],
)
async def test_forms(openai_client: openai.AsyncOpenAI, llm: FakeLlm, more: Any, kind: str | None, value: Any) -> None:
    await openai_client.chat.completions.create(model=MODEL, messages=HELLO, extra_body=more)
    output = llm.requests[0].sampling.output
    assert output.WhichOneof("format") == kind
    if value is not None:
        found = getattr(output, str(kind))
        assert (list(found.choices) if kind == "choice" else found) == value


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "guided_regex"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name"),
        ({"tools": [WEATHER], "guided_regex": "a"}, "guided_regex"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
    ],
)
async def test_what_cannot_be(openai_client: openai.AsyncOpenAI, more: Any, field: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await openai_client.chat.completions.create(model=MODEL, messages=HELLO, extra_body=more)
    assert refused.value.param == field
    assert field in refused.value.message


@pytest.mark.parametrize(
    ("inner", "field"),
    [
        ("sampling.output.json_schema", "response_format.json_schema.schema"),
        ("tools.tools[0].parameters", "tools[0].function.parameters"),
    ],
)
async def test_a_grammar_that_is_refused_is_named(
    openai_client: openai.AsyncOpenAI, llm: FakeLlm, inner: str, field: str
) -> None:
    llm.failures = [GrammarInvalid("Invalid type: objekt (at /properties/a)", field=inner)]
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    with pytest.raises(openai.BadRequestError) as refused:
        await openai_client.chat.completions.create(model=MODEL, messages=HELLO, response_format=wanted)
    assert (refused.value.param, refused.value.code) == (field, "grammar_invalid")


async def test_options_of_others_are_honoured(openai_client: openai.AsyncOpenAI, llm: FakeLlm) -> None:
    more = {"ignore_eos": True, "stop_token_ids": [7], "include_stop_str_in_output": True, "top_k": -1}
    await openai_client.chat.completions.create(model=MODEL, messages=HELLO, logit_bias={"5": -100}, extra_body=more)
    sampling = llm.requests[0].sampling
    assert (sampling.ignore_eos, list(sampling.stop_token_ids), sampling.include_stop) == (True, [7], True)
    assert (dict(sampling.logit_bias), sampling.top_k) == ({5: -100.0}, 0)


async def test_regions(openai_client: openai.AsyncOpenAI, llm: FakeLlm) -> None:
    llm.words = ["The <ref>car", "</ref><box>[[100, 100, 200, 500]]", "</box>."]
    completion = await openai_client.chat.completions.create(model=MODEL, messages=asking(picture()))
    message = completion.choices[0].message
    assert message.content == "The <ref>car</ref><box>[[100, 100, 200, 500]]</box>."
    (region,) = message.model_extra["regions"] if message.model_extra else []
    assert (region["phrase"], region["image_index"]) == ("car", 0)
    assert region["thousandths"] == [100, 100, 200, 500]
    assert region["pixels"] == pytest.approx([64, 48, 128, 240])
    assert region["point"] == pytest.approx([96, 144])
    stream = await openai_client.chat.completions.create(model=MODEL, messages=asking(picture()), stream=True)
    deltas = [chunk.choices[0].delta.model_extra or {} async for chunk in stream]
    assert [delta["regions"] for delta in deltas if "regions" in delta] == [[region]]
