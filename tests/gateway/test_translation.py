"""Public messages to the services' messages and back."""

import pytest

from gateway.media.files import Frames, MediaKind, Medium
from gateway.translation import Encoded, at_medium, encode_request, encode_video_request, generate_request
from internvl.chat.v1 import chat_pb2
from internvl.common.v1 import visual_pb2
from internvl.errors import BadOption, InternvlError, QueueFull

PATH = "messages[2].parts[1].image"


def picture(data: bytes | None = None, max_tile_count: int | None = None) -> Medium:
    return Medium(MediaKind.IMAGE, "media_1", max_tile_count, None, data, PATH)


def clip(data: bytes | None = None, frames: Frames | None = None) -> Medium:
    return Medium(MediaKind.VIDEO, "media_2", None, frames, data, "messages[0].parts[0].video")


def encoded(key: str, *frame_tile_counts: int) -> Encoded:
    return Encoded(
        visual_pb2.EmbeddingReference(key=key, tile_count=3, tokens_per_tile=4), "id", True, 30, frame_tile_counts
    )


def test_bytes_go_along_where_they_are_known_and_ids_otherwise() -> None:
    assert encode_request(picture(b"x"), "t").WhichOneof("source") == "data"
    by_id = encode_request(picture(), "t")
    assert (by_id.WhichOneof("source"), by_id.media_id, by_id.tenant) == ("media_id", "media_1", "t")


def test_what_is_unset_stays_unset() -> None:
    assert not encode_request(picture(), "t").HasField("max_tile_count")
    assert encode_request(picture(max_tile_count=2), "t").max_tile_count == 2
    request = encode_video_request(clip(b"x", Frames(start_seconds=0.0)), "t")
    assert request.frames.HasField("start_seconds")
    assert not request.frames.HasField("frame_count")
    assert not request.frames.HasField("end_seconds")


def test_media_are_put_in_place_in_order() -> None:
    parts = [
        chat_pb2.Part(video=chat_pb2.Video(data=b"v", visual=visual_pb2.VisualOptions(position_increment=0.5))),
        chat_pb2.Part(text="and"),
        chat_pb2.Part(image=chat_pb2.Image(data=b"p")),
    ]
    request = chat_pb2.ChatRequest(messages=[chat_pb2.Message(role=visual_pb2.ROLE_USER, parts=parts)])
    made = generate_request(
        request, "t", [clip(), picture()], {picture(): encoded("picture"), clip(): encoded("clip", 1, 2)}
    )
    video, text, image = made.messages[0].parts
    assert (video.video.embedding.key, list(video.video.frame_tile_counts)) == ("clip", [1, 2])
    assert video.video.visual.position_increment == 0.5
    assert text.text == "and"
    assert image.image.embedding.key == "picture"


def test_clients_see_counts_and_no_keys() -> None:
    media = encoded("secret key").public
    assert (media.source_count, media.read_count) == (30, 1)
    assert encoded("clip", 1, 2).public.read_count == 2
    assert (media.id, media.tile_count, media.token_count, media.embedding_cached) == ("id", 3, 12, True)
    assert b"secret key" not in media.SerializeToString()


@pytest.mark.parametrize(
    ("error", "field"),
    [
        (BadOption("x"), PATH),
        (BadOption("x", field="max_tile_count"), f"{PATH}.visual.max_tile_count"),
        (BadOption("x", field="media_id"), f"{PATH}.id"),
        (BadOption("x", field="frames.frame_count"), f"{PATH}.frames.frame_count"),
        (QueueFull("x"), None),
    ],
)
def test_the_field_at_fault_is_named_as_the_client_knows_it(error: InternvlError, field: str | None) -> None:
    assert at_medium(error, picture()).field == field
