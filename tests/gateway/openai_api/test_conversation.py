"""Bodies as our requests, and our fields in the client's words."""

import base64
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.openai_api.body import ChatBody
from gateway.openai_api.conversation import chat_requests, public_field
from internvl.chat.v1 import chat_pb2
from internvl.common.v1 import visual_pb2
from internvl.errors import ImageUnreadable, InvalidRequest, VideoUnreadable


def body(*parts: dict[str, Any], **more: Any) -> ChatBody:
    message = {"role": "user", "content": list(parts)}
    return ChatBody.model_validate({"model": "m", "messages": [message], **more})


def image(url: str, **options: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **options}}


def video(url: str, **options: Any) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": url, **options}}


def translated(*parts: dict[str, Any]) -> list[chat_pb2.Part]:
    (request,) = chat_requests(body(*parts))
    return list(request.messages[0].parts)


ENCODED = base64.b64encode(b"a file").decode()


@pytest.mark.parametrize(
    "prefix",
    ["data:image/png;base64,", "data:;base64,", "DATA:IMAGE/PNG;BASE64,", "data:image/svg+xml;charset=utf-8;base64,"],
)
def test_data_urls(prefix: str) -> None:
    (part,) = translated(image(prefix + ENCODED))
    assert part.image.data == b"a file"


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,",
        "data:image/png;base64,%%%",
        "data:image/png;base64,QQ=",
        "data:image/png,",
        "data:",
        "data:" + "x" * 2000 + ";base64,QQ==",
        "",
        " \n",
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ",
        "picture.png",
        "data:image/png;base64,\u00e9",
    ],
)
@pytest.mark.parametrize(("part", "error"), [(image, ImageUnreadable), (video, VideoUnreadable)])
def test_data_urls_that_are_none(url: str, part: Any, error: type[InvalidRequest]) -> None:
    with pytest.raises(error) as refused:
        translated({"type": "text", "text": "look"}, part(url))
    kind = "image_url" if part is image else "video_url"
    assert refused.value.field == f"messages[0].content[1].{kind}.url"


def test_other_urls_are_addresses() -> None:
    shown, clip = translated(image(" https://a.example/b.png\n"), video("https://a.example/b.mp4", frame_count=4))
    assert shown.image.uri == "https://a.example/b.png"
    assert clip.video.uri == "https://a.example/b.mp4"
    assert clip.video.frames.frame_count == 4


def test_detail_is_a_number_of_tiles_unless_one_is_given() -> None:
    parts = translated(
        *(image("https://a.example/", detail=detail) for detail in ("low", "high", "auto")),
        image("https://a.example/", detail="low", max_tile_count=3),
    )
    counts = [
        part.image.visual.max_tile_count if part.image.visual.HasField("max_tile_count") else None for part in parts
    ]
    assert counts == [1, None, None, 3]


def test_layouts() -> None:
    given, default = translated(image("https://a.example/", layout="as_given"), image("https://a.example/"))
    assert given.image.visual.layout == visual_pb2.LAYOUT_AS_GIVEN
    assert default.image.visual.layout == visual_pb2.LAYOUT_UNSPECIFIED
    assert chat_requests(body(layout="as_given"))[0].visual.layout == visual_pb2.LAYOUT_AS_GIVEN
    with pytest.raises(ValidationError, match="layout"):
        body(layout="free")


def test_top_logprobs_need_logprobs() -> None:
    with pytest.raises(InvalidRequest) as refused:
        chat_requests(body(top_logprobs=2))
    assert refused.value.field == "top_logprobs"


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("messages[0].parts[1].image.data", "messages[0].content[1].image_url.url"),
        ("messages[0].parts[1].image.uri", "messages[0].content[1].image_url.url"),
        ("messages[0].parts[1].image", "messages[0].content[1].image_url"),
        ("messages[0].parts[1].image.visual.max_tile_count", "messages[0].content[1].image_url.max_tile_count"),
        ("messages[0].parts[1].video.frames.frame_count", "messages[0].content[1].video_url.frame_count"),
        ("messages[0].parts", "messages[0].content"),
        ("messages[3].role", "messages[3].role"),
        ("messages", "messages"),
        ("sampling.max_tokens", "max_tokens"),
        ("sampling.top_logprob_count", "top_logprobs"),
        ("visual.position_increment", "position_increment"),
    ],
)
def test_fields_in_the_clients_words(field: str, expected: str) -> None:
    assert public_field(field, body()) == expected


def test_the_field_that_was_sent_is_named() -> None:
    assert public_field("sampling.max_tokens", body(max_completion_tokens=0)) == "max_completion_tokens"
