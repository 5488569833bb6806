"""The client without an event loop: as the other one, from any thread."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from internvl.client import Delta, Event, Finished, Sampling, Started, user
from internvl.client.sync_client import SyncChatClient
from internvl.errors import BackendUnavailable, DeadlineExceeded
from shared.content import content_digest, media_id
from tests.support.fakes import FakeLlm, FakeVision

Answer = TypeVar("Answer")


async def run(work: Callable[[], Answer]) -> Answer:
    """In a thread, as a program without an event loop would; the fakes are served by ours."""
    return await asyncio.to_thread(work)


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


async def test_chat_upload_and_model_info(gateway: str, vision: FakeVision) -> None:
    def work() -> tuple[str, str, list[Event]]:
        with SyncChatClient(gateway) as client:
            identifier = client.upload(b"file")
            events = list(client.chat([user("?", b"picture")], sampling=Sampling(max_tokens=3)))
            return client.model_info().model, identifier, events

    model, identifier, events = await run(work)
    assert (model, identifier) == ("InternVL3-test", media_id("default", content_digest(b"file")))
    assert [type(event) for event in events] == [Started, Delta, Delta, Finished]


async def test_a_session_keeps_history_and_sends_files_again(gateway: str, vision: FakeVision, llm: FakeLlm) -> None:
    def work() -> list[str]:
        with SyncChatClient(gateway) as client:
            session = client.session(system="be brief")
            first = text(list(session.ask("one?", b"picture")))
            vision.files.clear()
            second = text(list(session.ask("two?")))
            assert len(session.messages) == 5
            return [first, second]

    assert await run(work) == ["two circles"] * 2
    assert [request.data for request in vision.encodes] == [b"picture", b"", b"picture"]


async def test_leaving_a_reply_stops_it_on_the_server(gateway: str, llm: FakeLlm) -> None:
    llm.gate = asyncio.Event()

    def work() -> None:
        with SyncChatClient(gateway) as client:
            for event in client.chat([user("?")]):
                if isinstance(event, Delta):
                    break

    await run(work)
    async with asyncio.timeout(5):
        await llm.cancelled.wait()


async def test_errors_and_deadlines_are_those_of_the_other_client(gateway: str, llm: FakeLlm) -> None:
    llm.gate = asyncio.Event()

    def late() -> None:
        with SyncChatClient(gateway) as client, pytest.raises(DeadlineExceeded):
            list(client.chat([user("?")], timeout=0.2))

    def nobody() -> None:
        with SyncChatClient("127.0.0.1:1") as client, pytest.raises(BackendUnavailable):
            client.model_info()

    await run(late)
    await run(nobody)


async def test_one_client_serves_many_threads_and_leaves_none(gateway: str, llm: FakeLlm) -> None:
    before = threading.active_count()

    def work() -> list[str]:
        with SyncChatClient(gateway) as client, ThreadPoolExecutor(4) as threads:
            return list(threads.map(lambda _: text(list(client.chat([user("?")]))), range(4)))

    assert await run(work) == ["two circles"] * 4
    assert "internvl-client" not in {thread.name for thread in threading.enumerate()}
    assert threading.active_count() <= before + 1, "the one that ran this"
