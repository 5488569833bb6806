"""Every field outside its range is refused, and the error names it."""

from typing import Any

import pytest

from internvl.common.v1 import sampling_pb2, tools_pb2, visual_pb2
from internvl.errors import BadMessages, BadOption, InvalidRequest
from internvl.llm.v1 import llm_pb2
from llm_service.conversation import Auto, Combined, Role, Visual
from llm_service.validation import generation_request

KEY = "a" * 64


def text(role: visual_pb2.Role.ValueType, value: str = "hello") -> llm_pb2.Message:
    return llm_pb2.Message(role=role, parts=[llm_pb2.Part(text=value)])


USER, ASSISTANT, SYSTEM = visual_pb2.ROLE_USER, visual_pb2.ROLE_ASSISTANT, visual_pb2.ROLE_SYSTEM


def image(**fields: Any) -> llm_pb2.Message:
    values: dict[str, Any] = {"key": KEY, "tile_count": 2, "tokens_per_tile": 4} | fields
    embedding = visual_pb2.EmbeddingReference(**values)
    return llm_pb2.Message(role=USER, parts=[llm_pb2.Part(image=llm_pb2.VisualPart(embedding=embedding))])


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "messages"),
        ([text(ASSISTANT)], "messages[0].role"),
        ([text(USER), text(ASSISTANT)], "messages[1].role"),
        ([text(USER), text(SYSTEM)], "messages[1].role"),
        ([llm_pb2.Message(role=USER, tool_calls=[tools_pb2.ToolCall(name="f")]), text(USER)], "messages[0].tool_calls"),
        ([text(visual_pb2.ROLE_UNSPECIFIED), text(USER)], "messages[0].role"),
        ([llm_pb2.Message(role=USER, parts=[llm_pb2.Part()])], "messages[0].parts[0]"),
        ([llm_pb2.Message(role=ASSISTANT, parts=image().parts), text(USER)], "messages[0].parts"),
    ],
)
def test_conversations_that_cannot_be_answered(messages: list[llm_pb2.Message], field: str) -> None:
    with pytest.raises(BadMessages) as caught:
        generation_request(llm_pb2.GenerateRequest(messages=messages), default_increment=256)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"top_k": -1},
        {"min_p": 1.1},
        {"repetition_penalty": 0.0},
        {"presence_penalty": float("inf")},
        {"max_tokens": 0},
        {"max_tokens": -5},
        {"top_logprob_count": 21},
        {"stop": [""]},
        {"stop": ["x"] * 1_000},
    ],
    ids=str,
)
def test_sampling_outside_its_range(fields: dict[str, Any]) -> None:
    request = llm_pb2.GenerateRequest(messages=[text(USER)], sampling=sampling_pb2.SamplingOptions(**fields))
    with pytest.raises(BadOption) as caught:
        generation_request(request, default_increment=256)
    assert caught.value.field == f"sampling.{next(iter(fields))}"


@pytest.mark.parametrize("fields", [{"key": "short"}, {"tile_count": 0}, {"tokens_per_tile": -1}])
def test_references_that_refer_to_nothing(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        generation_request(llm_pb2.GenerateRequest(messages=[image(**fields)]), default_increment=256)
    assert caught.value.field == "messages[0].parts[0].image.embedding"


def test_an_increment_that_is_not_allowed() -> None:
    request = llm_pb2.GenerateRequest(messages=[image()], visual=visual_pb2.VisualOptions(position_increment=0.3))
    with pytest.raises(BadOption, match=r"one of 1, 1/2, 1/4, ... 1/256, got 0.3") as caught:
        generation_request(request, default_increment=256)
    assert caught.value.field == "visual.position_increment"


def test_increments_by_picture_by_request_by_default() -> None:
    plain, own = image(), image()
    own.parts[0].image.visual.position_increment = 1 / 256
    for visual, wanted in [
        (visual_pb2.VisualOptions(), [64, 1]),
        (visual_pb2.VisualOptions(position_increment=0.5), [128, 1]),
        (visual_pb2.VisualOptions(auto_increment=visual_pb2.AutoIncrement()), [Auto.AUTO, 1]),
    ]:
        request = llm_pb2.GenerateRequest(messages=[plain, text(ASSISTANT), own], visual=visual)
        parsed = generation_request(request, default_increment=64)
        visuals = [part for message in parsed.messages for part in message.parts if isinstance(part, Visual)]
        assert [one.increment for one in visuals] == wanted


def test_unset_is_the_default_and_zero_is_zero() -> None:
    unset = generation_request(llm_pb2.GenerateRequest(messages=[text(SYSTEM), text(USER)]), default_increment=256)
    assert unset.messages[0].role is Role.SYSTEM
    assert (unset.sampling.temperature, unset.sampling.top_p, unset.max_tokens) == (0.0, 1.0, None)
    zero = sampling_pb2.SamplingOptions(top_logprob_count=0, seed=0)
    parsed = generation_request(llm_pb2.GenerateRequest(messages=[text(USER)], sampling=zero), default_increment=256)
    assert (parsed.sampling.seed, parsed.sampling.top_logprob_count) == (0, 0)


def visual_of(request: llm_pb2.GenerateRequest) -> Visual | Combined:
    (part,) = generation_request(request, default_increment=256).messages[0].parts
    assert not isinstance(part, str)
    return part


@pytest.mark.parametrize(
    ("request_", "own", "wanted"),
    [
        (visual_pb2.LAYOUT_UNSPECIFIED, visual_pb2.LAYOUT_UNSPECIFIED, False),
        (visual_pb2.LAYOUT_AS_GIVEN, visual_pb2.LAYOUT_UNSPECIFIED, True),
        (visual_pb2.LAYOUT_AS_GIVEN, visual_pb2.LAYOUT_LINES, False),
        (visual_pb2.LAYOUT_UNSPECIFIED, visual_pb2.LAYOUT_AS_GIVEN, True),
    ],
)
def test_the_layout_is_the_images_own_else_the_requests(
    request_: visual_pb2.Layout.ValueType, own: visual_pb2.Layout.ValueType, *, wanted: bool
) -> None:
    message = image()
    message.parts[0].image.visual.layout = own
    request = llm_pb2.GenerateRequest(messages=[message], visual=visual_pb2.VisualOptions(layout=request_))
    assert visual_of(request).is_as_given is wanted


def combined(*tile_counts: int, **options: Any) -> llm_pb2.GenerateRequest:
    embeddings = [visual_pb2.EmbeddingReference(key=KEY, tile_count=count, tokens_per_tile=4) for count in tile_counts]
    part = llm_pb2.CombinedPart(embeddings=embeddings, visual=visual_pb2.VisualOptions(**options))
    return llm_pb2.GenerateRequest(messages=[llm_pb2.Message(role=USER, parts=[llm_pb2.Part(combined=part)])])


def test_a_combined_image_has_one_increment_and_one_layout() -> None:
    found = visual_of(combined(2, 3, position_increment=0.25, layout=visual_pb2.LAYOUT_AS_GIVEN))
    assert isinstance(found, Combined)
    assert [(each.tile_count, each.increment, each.is_as_given) for each in found.visuals] == [
        (2, 64, True),
        (3, 64, True),
    ]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (combined(), "messages[0].parts[0].combined.embeddings"),
        (combined(1, 0), "messages[0].parts[0].combined.embeddings[1].embedding"),
        (combined(1, position_increment=0.3), "messages[0].parts[0].combined.visual.position_increment"),
        (combined(1, layout=9), "messages[0].parts[0].combined.visual.layout"),
    ],
)
def test_combined_images_that_are_refused(request_: llm_pb2.GenerateRequest, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        generation_request(request_, default_increment=256)
    assert caught.value.field == field
