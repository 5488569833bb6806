"""The client: history, ids in place of bytes, files sent again."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from internvl.client import (
    ChatClient,
    ChatSession,
    Delta,
    Event,
    Finished,
    Image,
    Message,
    Started,
    Video,
    user,
)
from internvl.client.session import INLINE_BYTES
from internvl.errors import BadOption, ImageTooLarge, MediaExpired, PromptTooLong
from shared.content import content_digest, media_id
from tests.support.fakes import FakeLlm, FakeVision

PICTURE = b"picture"
PICTURE_ID = media_id("default", content_digest(PICTURE))


@pytest.fixture
async def session(client: ChatClient) -> ChatSession:
    return ChatSession(client, system="be brief")


async def turn(session: ChatSession, *parts: str | bytes | Path | Image | Video) -> list[Event]:
    return [event async for event in session.ask(*parts)]


async def test_history_grows_by_finished_turns(session: ChatSession, llm: FakeLlm) -> None:
    await turn(session, "one?", PICTURE)
    await turn(session, "two?")
    assert [message.role for message in session.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert session.messages[2] == Message("assistant", ("two circles",))
    assert len(llm.requests[1].messages) == 4


async def test_bytes_are_sent_once_and_ids_afterwards(session: ChatSession, vision: FakeVision) -> None:
    await turn(session, "one?", PICTURE)
    started, *_ = await turn(session, "two?", PICTURE)
    assert [request.data for request in vision.encodes] == [PICTURE, b""]
    assert vision.encodes[1].media_id == PICTURE_ID
    assert isinstance(started, Started)
    assert [media.embedding_cached for media in started.media] == [True, True]


async def test_expired_files_are_sent_again(session: ChatSession, vision: FakeVision) -> None:
    await turn(session, "one?", PICTURE)
    vision.files.clear()
    events = await turn(session, "two?")
    assert [request.data for request in vision.encodes] == [PICTURE, b"", PICTURE]
    assert [type(event) for event in events] == [Started, Delta, Delta, Finished]


async def test_an_expired_id_without_bytes_is_an_error(session: ChatSession) -> None:
    with pytest.raises(MediaExpired):
        await turn(session, Image(id="media_" + "0" * 48))
    assert [message.role for message in session.messages] == ["system"]


async def test_a_failed_turn_leaves_the_history(session: ChatSession, llm: FakeLlm) -> None:
    await turn(session, "one?")
    before = session.messages
    llm.failures = [PromptTooLong("too long")]
    with pytest.raises(PromptTooLong):
        await turn(session, "two?")
    assert session.messages == before


async def test_a_stopped_turn_leaves_the_history(session: ChatSession, llm: FakeLlm) -> None:
    llm.gate = asyncio.Event()
    async with aclosing(session.ask("one?")) as events:
        async for event in events:
            if isinstance(event, Delta):
                break
    assert [message.role for message in session.messages] == ["system"]
    async with asyncio.timeout(5):
        await llm.cancelled.wait()


async def test_large_files_are_uploaded(session: ChatSession, vision: FakeVision) -> None:
    large = bytes(INLINE_BYTES + 1)
    await turn(session, Video(large), "what?")
    identifier = media_id("default", content_digest(large))
    assert vision.files[identifier] == large
    assert vision.clips[0].media_id == identifier


async def test_upload_gives_an_id_for_later(client: ChatClient, vision: FakeVision) -> None:
    identifier = await client.upload(PICTURE)
    assert identifier == PICTURE_ID
    assert [event async for event in client.chat([user(Image(id=identifier))])]
    assert vision.encodes[0].media_id == PICTURE_ID


async def test_uploads_are_checked_before_they_are_sent_on(client: ChatClient) -> None:
    with pytest.raises(BadOption) as empty:
        await client.upload(b"")
    assert empty.value.field == "header.size_bytes"
    with pytest.raises(ImageTooLarge):
        await client.upload(bytes((8 << 20) + 1))


async def test_pictures_come_as_bytes_or_paths(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PICTURE)
    assert user(path, PICTURE, "text").parts == (Image(PICTURE), Image(PICTURE), "text")


def test_a_medium_has_bytes_or_an_id() -> None:
    with pytest.raises(ValueError, match="either"):
        Image()
    with pytest.raises(ValueError, match="either"):
        Video(b"x", id="media_1")
