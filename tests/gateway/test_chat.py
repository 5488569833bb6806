"""A turn end to end, between a real client and fake services."""

import asyncio
from contextlib import aclosing

import grpc
import pytest

from gateway.replicas.route import MAX_ATTEMPTS
from internvl.chat.v1 import chat_pb2, chat_pb2_grpc
from internvl.client import (
    ChatClient,
    CombinedImage,
    Delta,
    Event,
    Finished,
    Image,
    Sampling,
    Started,
    Video,
    Visual,
    user,
)
from internvl.client.messages import Message
from internvl.common.v1 import visual_pb2
from internvl.errors import (
    BackendUnavailable,
    BadOption,
    DeadlineExceeded,
    Draining,
    EmbeddingInvalid,
    EmbeddingNotFound,
    ImageUnreadable,
    InternvlError,
    MediaExpired,
    PromptTooLong,
    QueueFull,
)
from shared.content import content_digest, content_key, media_id
from tests.support.fakes import FakeLlm, FakeVision

PICTURE, OTHER = b"picture", b"other picture"
PICTURE_ID = media_id("default", content_digest(PICTURE))


async def events_of(client: ChatClient, *messages: Message, seconds: float = 20.0) -> list[Event]:
    return [event async for event in client.chat(messages, timeout=seconds)]


async def test_events_come_in_order(client: ChatClient) -> None:
    started, *deltas, finished = await events_of(client, user("how many?", PICTURE))
    assert isinstance(started, Started)
    assert started.model == "InternVL3-test"
    assert started.response_id
    assert [(media.id, media.tile_count, media.token_count) for media in started.media] == [(PICTURE_ID, 2, 32)]
    assert deltas == [Delta("two "), Delta("circles")]
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.usage.prompt_token_count) == ("stop", 7)
    timing = finished.timing
    assert 0 < timing.encode_seconds < timing.first_token_seconds < timing.total_seconds


async def test_deltas_without_text_are_not_sent_on(client: ChatClient, llm: FakeLlm) -> None:
    llm.words = ["", "two", ""]
    assert [event for event in await events_of(client, user("?")) if isinstance(event, Delta)] == [Delta("two")]


async def test_equal_pictures_are_encoded_once(client: ChatClient, vision: FakeVision, llm: FakeLlm) -> None:
    started, *_ = await events_of(client, user(PICTURE, "and", PICTURE, "and", OTHER))
    assert sorted(request.data for request in vision.encodes) == [OTHER, PICTURE]
    assert isinstance(started, Started)
    assert len(started.media) == 3
    keys = [part.image.embedding.key for part in llm.requests[0].messages[0].parts if part.HasField("image")]
    assert keys[0] == keys[1] != keys[2]


async def test_the_conversation_reaches_the_model_whole(client: ChatClient, llm: FakeLlm, vision: FakeVision) -> None:
    messages = [
        Message("system", ("be brief",)),
        user("look", Image(PICTURE, visual=Visual(max_tile_count=3, position_increment=0.25))),
        Message("assistant", ("yes",)),
        user(Video(OTHER, frame_count=2), "how many?"),
    ]
    sampling = Sampling(max_tokens=5, temperature=0.0, stop=("\n",))
    async for _ in client.chat(messages, sampling=sampling, visual=Visual(position_increment="auto")):
        pass
    (request,) = llm.requests
    assert request.tenant == "default"
    assert [message.role for message in request.messages] == [
        visual_pb2.ROLE_SYSTEM,
        visual_pb2.ROLE_USER,
        visual_pb2.ROLE_ASSISTANT,
        visual_pb2.ROLE_USER,
    ]
    assert (request.sampling.max_tokens, request.sampling.HasField("temperature")) == (5, True)
    assert (list(request.sampling.stop), request.sampling.HasField("seed")) == (["\n"], False)
    assert request.visual.HasField("auto_increment")
    assert request.messages[1].parts[1].image.visual.position_increment == 0.25
    assert list(request.messages[3].parts[0].video.frame_tile_counts) == [1, 1]
    assert vision.encodes[0].max_tile_count == 3
    assert vision.clips[0].frames.frame_count == 2
    assert not vision.clips[0].HasField("max_tile_count")


async def test_a_combined_image_reaches_the_model_as_one(client: ChatClient, llm: FakeLlm, vision: FakeVision) -> None:
    both = CombinedImage(
        (Image(PICTURE, visual=Visual(max_tile_count=3)), Image(OTHER)),
        visual=Visual(max_tile_count=9, position_increment=0.25, layout="as_given"),
    )
    started, *_ = await events_of(client, user(PICTURE, "Combined: <image>, alone: <image>", both))
    assert isinstance(started, Started)
    assert len(started.media) == 3
    counts = {(each.data, each.max_tile_count if each.HasField("max_tile_count") else None) for each in vision.encodes}
    assert counts == {(PICTURE, None), (PICTURE, 3), (OTHER, 9)}
    text, first, between, combined = llm.requests[0].messages[0].parts
    assert (text.text, between.text) == ("Combined: ", ", alone: ")
    assert first.HasField("image")
    assert len(combined.combined.embeddings) == 2
    assert combined.combined.visual.position_increment == 0.25
    assert combined.combined.visual.layout == visual_pb2.LAYOUT_AS_GIVEN


async def test_the_layout_of_the_request_reaches_the_model(client: ChatClient, llm: FakeLlm) -> None:
    async for _ in client.chat([user("Look at ", PICTURE)], visual=Visual(layout="as_given")):
        pass
    assert llm.requests[0].visual.layout == visual_pb2.LAYOUT_AS_GIVEN


async def test_a_lost_embedding_is_made_again_once(client: ChatClient, vision: FakeVision, llm: FakeLlm) -> None:
    llm.failures = [EmbeddingNotFound.of([content_key(PICTURE_ID)])]
    started, *rest = await events_of(client, user(PICTURE, OTHER))
    assert isinstance(started, Started)
    assert isinstance(rest[-1], Finished)
    assert [request.data for request in vision.encodes].count(PICTURE) == 2
    assert [request.data for request in vision.encodes].count(OTHER) == 1


async def test_a_lost_embedding_of_a_picture_known_by_id_is_made_by_id(
    client: ChatClient, vision: FakeVision, llm: FakeLlm
) -> None:
    vision.files[PICTURE_ID] = PICTURE
    llm.failures = [EmbeddingNotFound.of([content_key(PICTURE_ID)])]
    await events_of(client, user(Image(id=PICTURE_ID), "?"))
    assert [request.media_id for request in vision.encodes] == [PICTURE_ID, PICTURE_ID]


async def test_an_embedding_that_is_lost_twice_is_an_error(client: ChatClient, llm: FakeLlm) -> None:
    llm.failures = [EmbeddingNotFound.of(["k"]), EmbeddingNotFound.of(["k"])]
    with pytest.raises(EmbeddingNotFound):
        await events_of(client, user(PICTURE))
    assert len(llm.requests) == 2


async def test_an_absent_service_is_asked_again_before_the_first_token(
    client: ChatClient, llm: FakeLlm, vision: FakeVision
) -> None:
    llm.failures, vision.failures = [Draining("going")], [Draining("going")]
    assert isinstance((await events_of(client, user(PICTURE)))[-1], Finished)
    assert (len(llm.requests), len(vision.encodes)) == (2, 2)


async def test_a_reply_that_breaks_off_goes_on_after_its_tokens(client: ChatClient, llm: FakeLlm) -> None:
    llm.words = ["two ", "red ", "circles"]
    llm.late_failures = [BackendUnavailable("gone"), Draining("going")]
    _, *deltas, finished = await events_of(client, user("?"))
    assert deltas == [Delta("two "), Delta("red "), Delta("circles")]
    assert isinstance(finished, Finished)
    assert finished.usage.completion_token_count == 3
    assert [list(request.resume_token_ids) for request in llm.requests] == [[], [0], [0, 1]]
    assert [request.sampling.HasField("seed") for request in llm.requests] == [False, True, True]
    assert {request.sampling.seed for request in llm.requests[1:]} == {41}


async def test_text_that_was_held_back_is_not_sent_twice(client: ChatClient, llm: FakeLlm) -> None:
    llm.tail = "!"
    llm.end_failures = [BackendUnavailable("gone")]
    deltas = [event for event in await events_of(client, user("?")) if isinstance(event, Delta)]
    assert deltas == [Delta("two "), Delta("circles"), Delta("!")]


async def test_an_embedding_lost_while_a_reply_moves_is_made_again(
    client: ChatClient, vision: FakeVision, llm: FakeLlm
) -> None:
    lost = EmbeddingNotFound.of([content_key(PICTURE_ID)])
    llm.late_failures = [BackendUnavailable("gone")]
    llm.failures = []
    request = asyncio.create_task(events_of(client, user(PICTURE)))
    while not llm.requests:  # noqa: ASYNC110 - a call that comes over the wire
        await asyncio.sleep(0)
    llm.failures = [lost]
    deltas = [event for event in await request if isinstance(event, Delta)]
    assert deltas == [Delta("two "), Delta("circles")]
    assert len(vision.encodes) == 2
    assert len(llm.requests) == 3


async def test_errors_that_are_not_absence_end_a_reply(client: ChatClient, llm: FakeLlm) -> None:
    llm.late_failures = [EmbeddingInvalid("not finite")]
    with pytest.raises(EmbeddingInvalid):
        await events_of(client, user("?"))
    assert len(llm.requests) == 1


async def test_a_service_that_stays_away_is_given_up_on(client: ChatClient, llm: FakeLlm) -> None:
    llm.failures = [Draining("going")] * 20
    with pytest.raises(Draining):
        await events_of(client, user("?"))
    assert len(llm.requests) == MAX_ATTEMPTS


async def test_closing_the_stream_stops_generation(client: ChatClient, llm: FakeLlm) -> None:
    llm.gate = asyncio.Event()
    async with aclosing(client.chat([user("?")])) as events:
        async for event in events:
            if isinstance(event, Delta):
                break
    async with asyncio.timeout(5):
        await llm.cancelled.wait()


async def test_cancelling_a_request_stops_encoding(client: ChatClient, vision: FakeVision, llm: FakeLlm) -> None:
    vision.gate = asyncio.Event()
    request = asyncio.create_task(events_of(client, user(PICTURE)))
    await vision.reached.wait()
    request.cancel()
    async with asyncio.timeout(5):
        await vision.cancelled.wait()
    assert llm.requests == []


async def test_one_bad_picture_stops_the_others(client: ChatClient, vision: FakeVision) -> None:
    vision.gate = asyncio.Event()
    request = asyncio.create_task(events_of(client, user(PICTURE, Image(id="media_" + "0" * 48))))
    await vision.reached.wait()
    await asyncio.sleep(0.05)
    vision.gate.set()
    with pytest.raises(MediaExpired):
        await request


async def test_a_failed_picture_cancels_those_still_being_encoded(client: ChatClient, vision: FakeVision) -> None:
    vision.gate = asyncio.Event()
    vision.failures = [ImageUnreadable("not a picture")]
    with pytest.raises(ImageUnreadable):
        await events_of(client, user(PICTURE, OTHER))
    if len(vision.encodes) == 2:  # else it was stopped before it was sent
        async with asyncio.timeout(5):
            await vision.cancelled.wait()


async def test_the_deadline_travels_on_and_stops_the_work(client: ChatClient, vision: FakeVision, llm: FakeLlm) -> None:
    llm.gate = asyncio.Event()
    with pytest.raises(DeadlineExceeded):
        await events_of(client, user(PICTURE), seconds=1.0)
    async with asyncio.timeout(5):
        await llm.cancelled.wait()
    for remaining in (vision.deadlines[0], llm.deadlines[0]):
        assert remaining is not None
        assert 0 < remaining < 1.1  # gRPC rounds up what it sends


@pytest.mark.parametrize(
    ("error", "field"),
    [
        (ImageUnreadable("not a picture"), "messages[0].parts[1].image"),
        (ImageUnreadable("not a picture", field="data"), "messages[0].parts[1].image.data"),
        (BadOption("too many", field="max_tile_count"), "messages[0].parts[1].image.visual.max_tile_count"),
        (QueueFull("no room", retry_after_seconds=3.0), None),
    ],
)
async def test_errors_of_the_vision_service_pass_through_with_the_public_field(
    client: ChatClient, vision: FakeVision, error: InternvlError, field: str | None
) -> None:
    vision.failures = [error]
    with pytest.raises(type(error), match=error.message) as caught:
        await events_of(client, user("?", PICTURE))
    assert caught.value.field == field
    assert caught.value.retry_after_seconds == error.retry_after_seconds


async def test_errors_of_the_llm_service_pass_through(client: ChatClient, llm: FakeLlm) -> None:
    llm.failures = [PromptTooLong("600 of 512 positions")]
    with pytest.raises(PromptTooLong, match="600 of 512") as caught:
        await events_of(client, user("?"))
    assert caught.value.field == "messages"


async def test_a_bad_request_reaches_no_service(client: ChatClient, vision: FakeVision, llm: FakeLlm) -> None:
    picture = Image(PICTURE, visual=Visual(position_increment=0.3))
    with pytest.raises(BadOption) as caught:
        await events_of(client, user(picture))
    assert caught.value.field == "messages[0].parts[0].image.visual.position_increment"
    assert (vision.encodes, llm.requests) == ([], [])


async def test_more_requests_than_allowed_are_refused_and_room_comes_back(client: ChatClient, llm: FakeLlm) -> None:
    llm.gate = asyncio.Event()
    running = [asyncio.create_task(events_of(client, user("?"))) for _ in range(4)]
    while len(llm.requests) < 4:  # noqa: ASYNC110 - calls that come over the wire
        await asyncio.sleep(0.01)
    with pytest.raises(QueueFull):
        await events_of(client, user("?"))
    for request in running:
        request.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    llm.gate = None
    async with asyncio.timeout(5):
        while True:
            try:
                await events_of(client, user("?"))
                break
            except QueueFull:
                await asyncio.sleep(0.02)


async def test_the_ids_of_a_request_reach_both_services_and_its_own_comes_back(
    gateway: str, vision: FakeVision, llm: FakeLlm
) -> None:
    ids = {"x-request-id": "req-7", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "vendor=1"}
    async with grpc.aio.insecure_channel(gateway) as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        message = chat_pb2.Message(role=visual_pb2.ROLE_USER, parts=[chat_pb2.Part(image=chat_pb2.Image(data=b"x"))])
        call = stub.Chat(chat_pb2.ChatRequest(messages=[message]), metadata=tuple(ids.items()))
        assert [event async for event in call]
        assert dict(await call.initial_metadata())["x-request-id"] == "req-7"
    assert vision.metadata
    assert llm.metadata
    assert all(received.items() >= ids.items() for received in vision.metadata + llm.metadata)
