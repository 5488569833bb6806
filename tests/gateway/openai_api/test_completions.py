"""Chats through OpenAI's own client over real HTTP."""

import asyncio
import base64
import json
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from internvl.common.v1 import visual_pb2
from internvl.errors import BadOption, DeadlineExceeded, EmbeddingInvalid, ImageUnreadable, PromptTooLong, QueueFull
from tests.gateway.openai_api.conftest import MODEL
from tests.support.fakes import FakeLlm, FakeVision, serving
from tests.support.gateway import gateway_settings, gateway_with

HELLO: list[Any] = [{"role": "user", "content": "hello"}]


def picture(data: bytes = b"a picture", **options: Any) -> dict[str, Any]:
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    return {"type": "image_url", "image_url": {"url": url, **options}}


def asking(*parts: Any) -> list[Any]:
    return [{"role": "user", "content": [*parts, {"type": "text", "text": "What is it?"}]}]


async def test_a_reply(openai_client: openai.AsyncOpenAI) -> None:
    completion = await openai_client.chat.completions.create(model=MODEL, messages=HELLO)
    (choice,) = completion.choices
    assert choice.message.content == "two circles"
    assert choice.finish_reason == "stop"
    assert completion.model == MODEL
    assert completion.id.startswith("chatcmpl-")
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (7, 2)
    assert completion.usage.total_tokens == 9
    assert completion.usage.prompt_tokens_details is not None
    assert completion.usage.prompt_tokens_details.cached_tokens == 0


@pytest.mark.parametrize("picture_count", [0, 3])
async def test_choices_that_all_fail_are_answered(vision: FakeVision, llm: FakeLlm, picture_count: int) -> None:
    """Sixteen failures in about the same moment; a third of such requests had no answer once."""
    pictures = [picture(b"%d" % index) for index in range(picture_count)]
    body = {"model": MODEL, "n": 16, "messages": asking(*pictures)}
    async with (
        serving(vision) as vision_address,
        serving(llm) as llm_address,
        gateway_with(gateway_settings(vision_address, llm_address, http_port=0, max_concurrent_requests=64)) as served,
        httpx.AsyncClient(base_url=f"http://{served.http}", timeout=60) as client,
    ):
        for _ in range(8):
            llm.failures = [PromptTooLong("too long") for _ in range(16)]
            vision.failures = [ImageUnreadable("no image") for _ in range(16 * picture_count)]
            answer = await client.post("/v1/chat/completions", json=body)
            assert answer.status_code == 400, answer.text
        llm.failures, vision.failures = [], []
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 200


async def test_a_stream(openai_client: openai.AsyncOpenAI) -> None:
    stream = await openai_client.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "two circles"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 9
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_answers_are_of_openais_types_to_the_letter(http: httpx.AsyncClient, stream: bool) -> None:
    body = {"model": MODEL, "messages": HELLO, "stream": stream}
    answer = await http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    if not stream:
        assert answer.headers["content-type"] == "application/json"
        ChatCompletion.model_validate_json(answer.content, strict=True)
        return
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, end = answer.text.strip().split("\n\n")
    assert end == "data: [DONE]"
    for event in events:
        ChatCompletionChunk.model_validate_json(event.removeprefix("data: "), strict=True)


async def test_a_picture_is_encoded_once_for_all_choices_and_turns(
    openai_client: openai.AsyncOpenAI, vision: FakeVision, llm: FakeLlm
) -> None:
    completion = await openai_client.chat.completions.create(
        model=MODEL, messages=asking(picture(detail="low"), picture(detail="low")), n=3, seed=-1
    )
    assert [choice.message.content for choice in completion.choices] == ["two circles"] * 3
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (7, 6)
    assert {encode.data for encode in vision.encodes} == {b"a picture"}
    assert {encode.max_tile_count for encode in vision.encodes} == {1}
    assert len(vision.encodes) == 3  # one a choice, however often it stands in the message
    assert [request.sampling.seed for request in llm.requests] == [2**64 - 1, 0, 1]


async def test_choices_of_a_stream_are_told_apart(openai_client: openai.AsyncOpenAI) -> None:
    stream = await openai_client.chat.completions.create(model=MODEL, messages=HELLO, stream=True, n=2)
    texts = {0: "", 1: ""}
    async for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == {0: "two circles", 1: "two circles"}


async def test_every_option_reaches_the_model(openai_client: openai.AsyncOpenAI, llm: FakeLlm) -> None:
    await openai_client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "hi"},
            *asking(picture(position_increment=0.25), picture(b"another")),
        ],
        max_completion_tokens=5,
        temperature=0.5,
        top_p=0.75,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        stop=["a", "b"],
        seed=7,
        logprobs=True,
        top_logprobs=2,
        user="somebody",
        extra_body={"top_k": 4, "min_p": 0.125, "repetition_penalty": 1.5, "position_increment": "auto"},
    )
    (request,) = llm.requests
    sampling = request.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.top_k) == (5, 0.5, 0.75, 4)
    assert (sampling.min_p, sampling.repetition_penalty) == (0.125, 1.5)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.5, -0.5)
    assert (list(sampling.stop), sampling.seed, sampling.top_logprob_count) == (["a", "b"], 7, 2)
    assert request.visual.WhichOneof("increment") == "auto_increment"
    roles = [message.role for message in request.messages]
    assert roles == [
        visual_pb2.ROLE_SYSTEM,
        visual_pb2.ROLE_USER,
        visual_pb2.ROLE_ASSISTANT,
        visual_pb2.ROLE_USER,
    ]
    own, default, text = request.messages[-1].parts
    assert own.image.visual.position_increment == 0.25
    assert not default.image.visual.HasField("position_increment")
    assert text.text == "What is it?"


async def test_openais_defaults_count_where_nothing_is_said(openai_client: openai.AsyncOpenAI, llm: FakeLlm) -> None:
    await openai_client.chat.completions.create(model=MODEL, messages=HELLO)
    await openai_client.chat.completions.create(model=MODEL, messages=HELLO, temperature=0)
    default, greedy = (request.sampling for request in llm.requests)
    assert (default.temperature, greedy.temperature) == (1.0, 0.0)
    assert not default.HasField("max_tokens")
    assert not default.HasField("seed")


async def test_models(openai_client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in openai_client.models.list()] == [MODEL]
    assert (await openai_client.models.retrieve(MODEL)).owned_by == "internvl-serving"
    with pytest.raises(openai.NotFoundError):
        await openai_client.models.retrieve("another/model")
    with pytest.raises(openai.NotFoundError) as refused:
        await openai_client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert refused.value.code == "model_not_found"
    assert refused.value.param == "model"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("failure", "expected", "code"),
    [
        (BadOption("no", field="sampling.max_tokens"), openai.BadRequestError, "bad_option"),
        (QueueFull("full", retry_after_seconds=2.5), openai.RateLimitError, "queue_full"),
        (DeadlineExceeded("late"), openai.APIStatusError, "deadline_exceeded"),
        (EmbeddingInvalid("broken"), openai.InternalServerError, "embedding_invalid"),
    ],
)
async def test_failures_before_the_reply_are_statuses(
    openai_client: openai.AsyncOpenAI,
    llm: FakeLlm,
    stream: bool,
    failure: Exception,
    expected: type[openai.APIStatusError],
    code: str,
) -> None:
    llm.failures = [failure] * 8  # type: ignore[list-item]
    with pytest.raises(expected) as refused:
        async with asyncio.timeout(30):
            await openai_client.chat.completions.create(model=MODEL, messages=HELLO, stream=stream)
    assert refused.value.code == code
    if isinstance(failure, BadOption):
        assert refused.value.param == "max_tokens"
    if isinstance(failure, QueueFull):
        assert refused.value.response.headers["retry-after"] == "3"


async def test_a_failure_in_the_middle_is_the_streams_last_event(
    openai_client: openai.AsyncOpenAI, llm: FakeLlm
) -> None:
    llm.late_failures = [EmbeddingInvalid("broken")]
    stream = await openai_client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    texts = [(await anext(stream)).choices[0].delta.content for _ in range(2)]
    assert texts == ["", "two "]
    with pytest.raises(openai.APIError) as failed:
        await anext(stream)
    assert failed.value.code == "embedding_invalid"


async def test_one_choice_that_fails_ends_all(openai_client: openai.AsyncOpenAI, llm: FakeLlm) -> None:
    llm.late_failures = [EmbeddingInvalid("broken")]
    with pytest.raises(openai.InternalServerError):
        await openai_client.chat.completions.create(model=MODEL, messages=HELLO, n=2)


async def test_a_stream_that_is_left_stops_the_work(openai_client: openai.AsyncOpenAI, llm: FakeLlm) -> None:
    llm.gate = asyncio.Event()
    async with await openai_client.chat.completions.create(model=MODEL, messages=HELLO, stream=True) as stream:
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    async with asyncio.timeout(10):
        await llm.cancelled.wait()


async def test_a_client_that_goes_before_the_answer_stops_the_work(
    openai_client: openai.AsyncOpenAI, llm: FakeLlm
) -> None:
    llm.gate = asyncio.Event()
    asked = asyncio.create_task(openai_client.chat.completions.create(model=MODEL, messages=HELLO))
    await llm.reached.wait()
    asked.cancel()
    async with asyncio.timeout(10):
        await llm.cancelled.wait()


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_not_read_and_what_was_odd_is_told(http: httpx.AsyncClient, stream: bool) -> None:
    messages = asking(picture(), {"type": "text", "text": "<image> or <image>?"})
    body = {"model": MODEL, "messages": messages, "stream": stream, "stream_options": {"include_usage": True}}
    answer = await http.post("/v1/chat/completions", json=body if stream else {**body, "stream_options": None})
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    first, last = (events[0], events[-1]) if stream else (answer.json(), answer.json())
    (warning,) = first["warnings"]
    assert warning.startswith("messages[0] has 1 image(s) and <image> 2 time(s)")
    assert [(medium["source_count"], medium["read_count"]) for medium in last["usage"]["media"]] == [(3, 1)]
    assert sum("warnings" in event for event in events) == stream


async def test_an_image_goes_where_its_placeholder_is(http: httpx.AsyncClient, llm: FakeLlm) -> None:
    parts = [picture(), {"type": "text", "text": "Look at <image> and answer."}]
    body = {"model": MODEL, "messages": [{"role": "user", "content": parts}]}
    answer = await http.post("/v1/chat/completions", json=body)
    assert "warnings" not in answer.json()
    (message,) = llm.requests[-1].messages
    assert [part.WhichOneof("part") for part in message.parts] == ["text", "image", "text"]
    assert [message.parts[0].text, message.parts[2].text] == ["Look at ", " and answer."]


async def test_conversations_in_any_order(http: httpx.AsyncClient, llm: FakeLlm) -> None:
    roles = ["assistant", "system", "developer", "user", "assistant", "system", "user"]
    messages = [{"role": role, "content": f"{role} {index}"} for index, role in enumerate(roles)]
    answer = await http.post("/v1/chat/completions", json={"model": MODEL, "messages": messages})
    assert answer.status_code == 200
    sent = [visual_pb2.Role.Name(message.role).removeprefix("ROLE_").lower() for message in llm.requests[-1].messages]
    assert sent == ["assistant", "system", "system", "user", "assistant", "system", "user"]
