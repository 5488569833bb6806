"""Media of a request: ids, equality, limits."""

import pytest

from gateway.media.files import Frames, MediaKind, distinct, media_of, read_media
from gateway.request_limits import RequestLimits
from internvl.chat.v1 import chat_pb2
from internvl.common.v1 import visual_pb2
from internvl.errors import (
    BadMessages,
    ImageTooLarge,
    ImageUnreadable,
    InternvlError,
    MediaExpired,
    VideoTooLarge,
    VideoUnreadable,
)
from shared.content import content_digest, media_id

LIMITS = RequestLimits(message_count=9, part_count=9, media_count=3, inline_media_bytes=10)


def request_of(*parts: chat_pb2.Part, visual: visual_pb2.VisualOptions | None = None) -> chat_pb2.ChatRequest:
    message = chat_pb2.Message(role=visual_pb2.ROLE_USER, parts=parts)
    return chat_pb2.ChatRequest(messages=[message], visual=visual)


def image(data: bytes | None = None, **fields: object) -> chat_pb2.Part:
    return chat_pb2.Part(image=chat_pb2.Image(data=data, **fields))  # type: ignore[arg-type]


def video(data: bytes | None = None, **fields: object) -> chat_pb2.Part:
    return chat_pb2.Part(video=chat_pb2.Video(data=data, **fields))  # type: ignore[arg-type]


def test_the_id_is_bound_to_tenant_and_content() -> None:
    (medium,) = media_of(request_of(image(b"abc")), "ann", LIMITS)
    assert medium.id == media_id("ann", content_digest(b"abc"))
    assert medium.id != media_of(request_of(image(b"abc")), "bob", LIMITS)[0].id
    assert medium.id != media_of(request_of(image(b"abd")), "ann", LIMITS)[0].id


def test_order_kind_and_place_are_kept() -> None:
    request = request_of(chat_pb2.Part(text="a"), video(b"c"), image(b"p"))
    clip, picture = media_of(request, "t", LIMITS)
    assert (clip.kind, clip.field_path, clip.frames) == (MediaKind.VIDEO, "messages[0].parts[1].video", Frames())
    assert (picture.kind, picture.field_path, picture.frames) == (MediaKind.IMAGE, "messages[0].parts[2].image", None)


def test_the_same_picture_as_bytes_and_by_id_is_one_medium_with_its_bytes() -> None:
    identifier = media_id("t", content_digest(b"abc"))
    media = media_of(request_of(image(id=identifier), image(b"abc"), image(id=identifier)), "t", LIMITS)
    (medium,) = distinct(media)
    assert medium.data == b"abc"


def test_a_picture_that_is_tiled_otherwise_is_another_medium() -> None:
    few = visual_pb2.VisualOptions(max_tile_count=1)
    media = media_of(request_of(image(b"abc"), image(b"abc", visual=few), image(b"abc")), "t", LIMITS)
    assert [medium.max_tile_count for medium in distinct(media)] == [None, 1]


def test_the_increment_does_not_make_another_medium() -> None:
    quarter = visual_pb2.VisualOptions(position_increment=0.25)
    media = media_of(request_of(image(b"abc"), image(b"abc", visual=quarter)), "t", LIMITS)
    assert len(distinct(media)) == 1


def test_the_requests_tile_count_holds_where_a_picture_has_none() -> None:
    default, own = visual_pb2.VisualOptions(max_tile_count=6), visual_pb2.VisualOptions(max_tile_count=2)
    media = media_of(request_of(image(b"a"), image(b"b", visual=own), visual=default), "t", LIMITS)
    assert [medium.max_tile_count for medium in media] == [6, 2]


@pytest.mark.parametrize(
    ("part", "error", "field"),
    [
        (image(), ImageUnreadable, "messages[0].parts[0].image"),
        (image(b""), ImageUnreadable, "messages[0].parts[0].image"),
        (video(b""), VideoUnreadable, "messages[0].parts[0].video"),
        (image(b"x" * 11), ImageTooLarge, "messages[0].parts[0].image.data"),
        (video(b"x" * 11), VideoTooLarge, "messages[0].parts[0].video.data"),
        (image(id="media_../../etc"), MediaExpired, None),
        (image(id=""), MediaExpired, None),
    ],
)
def test_refused(part: chat_pb2.Part, error: type[InternvlError], field: str | None) -> None:
    with pytest.raises(error) as caught:
        media_of(request_of(part), "t", LIMITS)
    assert caught.value.field == field


def test_bytes_are_counted_over_the_whole_request() -> None:
    with pytest.raises(ImageTooLarge) as caught:
        media_of(request_of(image(b"x" * 6), image(b"y" * 6)), "t", LIMITS)
    assert caught.value.field == "messages[0].parts[1].image.data"


def test_too_many_media() -> None:
    with pytest.raises(BadMessages):
        media_of(request_of(*[image(b"x")] * 4), "t", LIMITS)


async def test_many_bytes_are_read_the_same() -> None:
    large = RequestLimits(message_count=9, part_count=9, media_count=3, inline_media_bytes=1 << 20)
    for data in (b"abc", bytes(300 << 10)):
        request = request_of(image(data))
        assert await read_media(request, "t", large) == media_of(request, "t", large)
    with pytest.raises(ImageTooLarge):
        await read_media(request_of(image(bytes(2 << 20))), "t", large)
