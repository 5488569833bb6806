"""A conversation with a gateway, kept by the client: history, media ids, and what is asked again."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TypeVar

from internvl.client.chat_client import ChatClient, UploadProgress
from internvl.client.events import Delta, Event, Finished, Media, Started
from internvl.client.messages import (
    CombinedImage,
    Image,
    Medium,
    Message,
    Part,
    Piece,
    Sampling,
    Visual,
    tool_result,
    user,
)
from internvl.client.resend import Absence, Seen
from internvl.client.tools import ToolCall, ToolCalls, Tools
from internvl.errors import MediaExpired, Unavailable
from internvl.transport.deadline import Deadline

File = TypeVar("File", bound=Medium)

INLINE_BYTES = 4 << 20
"""A session uploads files that are larger, and refers to them by id."""


class ChatSession:
    """A conversation: keeps its history, and sends every file once.

    A turn that fails or is stopped leaves the history as it was. Files that the server no longer has are sent again,
    and so is a turn whose gateway goes: an address may name several (`ipv4:10.0.0.1:50050,10.0.0.2:50050`, a DNS name).
    While the services behind it change to another checkpoint a turn waits for them.
    """

    def __init__(
        self,
        client: ChatClient,
        *,
        system: str | None = None,
        sampling: Sampling | None = None,
        visual: Visual | None = None,
        tools: Tools | None = None,
        on_upload: UploadProgress | None = None,
    ) -> None:
        self._client = client
        self._sampling = sampling
        self.visual = visual
        """How images are shown from the next turn on."""
        self.tools = tools
        """Tools that may be called from the next turn on."""
        self._on_upload = on_upload
        self._history = [Message("system", (system,))] if system is not None else []
        self._ids: dict[bytes, str] = {}

    @property
    def messages(self) -> tuple[Message, ...]:
        """The history, with the bytes of every file."""
        return tuple(self._history)

    def ask(self, *parts: Piece, timeout: float | None = 300.0) -> AsyncGenerator[Event, None]:
        """One turn. A string is text; bytes and paths are images."""
        return self._turn([user(*parts)], timeout)

    def give_results(self, results: Mapping[str, str], timeout: float | None = 300.0) -> AsyncGenerator[Event, None]:
        """The turn after one that called tools: the result of each call, by the call's id."""
        return self._turn([tool_result(*each) for each in results.items()], timeout)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls that the last reply made."""
        return self._history[-1].tool_calls if self._history else ()

    async def _turn(self, news: list[Message], seconds: float | None) -> AsyncGenerator[Event, None]:
        reply, calls = "", ToolCalls()
        async with aclosing(self._answer([*self._history, *news], seconds)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    reply += event.text
                    for call in event.tool_calls:
                        calls.add(call)
                elif isinstance(event, Finished):
                    self._history += [*news, Message("assistant", (reply,) if reply else (), calls.calls)]
                yield event

    async def _answer(self, messages: Sequence[Message], seconds: float | None) -> AsyncGenerator[Event, None]:
        """Asks again when files are gone, and when the gateway or what is behind it is. Every event comes once."""
        deadline, sampling = Deadline.after(seconds), _repeatable(self._sampling or Sampling())
        seen, absence = Seen(), Absence(deadline)
        while True:
            may_resend = bool(self._ids)
            seen.begin()
            try:
                sendable = [await self._sendable(message, deadline) for message in messages]
                seconds = deadline.remaining()
                reply = self._client.chat(
                    sendable, sampling=sampling, visual=self.visual, tools=self.tools, timeout=seconds
                )
                async with aclosing(reply) as events:
                    async for event in events:
                        if isinstance(event, Started):
                            self._learn(messages, event.media)
                        if (news := seen.news(event)) is not None:
                            absence.is_over()
                            yield news
                return
            except MediaExpired:
                if not may_resend:
                    raise
                self._ids.clear()
            except Unavailable as error:
                await asyncio.sleep(absence.pause(error))

    async def _sendable(self, message: Message, deadline: Deadline) -> Message:
        return replace(message, parts=tuple([await self._sendable_part(part, deadline) for part in message.parts]))

    async def _sendable_part(self, part: Part, deadline: Deadline) -> Part:
        if isinstance(part, str):
            return part
        if isinstance(part, CombinedImage):
            return replace(part, images=tuple([await self._sendable_file(each, deadline) for each in part.images]))
        return await self._sendable_file(part, deadline)

    async def _sendable_file(self, part: File, deadline: Deadline) -> File:
        if part.digest is None or part.data is None:
            return part
        if part.digest not in self._ids:
            if len(part.data) <= INLINE_BYTES:
                return part
            self._ids[part.digest] = await self._client.upload(
                part.data,
                "image" if isinstance(part, Image) else "video",
                timeout=deadline.remaining(),
                on_progress=self._on_upload,
            )
        return replace(part, data=None, id=self._ids[part.digest])

    def _learn(self, messages: Sequence[Message], media: Sequence[Media]) -> None:
        parts = [part for message in messages for part in message.media]
        for part, known in zip(parts, media, strict=True):
            if part.digest is not None:
                self._ids[part.digest] = known.id


async def follow(events: AsyncGenerator[Event, None], on_text: Callable[[str], object]) -> tuple[Started, Finished]:
    """Hands on the text of a reply as it comes; returns how it began and ended."""
    started: Started | None = None
    finished: Finished | None = None
    async with aclosing(events):
        async for event in events:
            match event:
                case Started():
                    started = event
                case Delta():
                    on_text(event.text)
                case Finished():
                    finished = event
    assert started is not None, "a reply begins with Started"
    assert finished is not None, "a reply ends with Finished"
    return started, finished


def _repeatable(sampling: Sampling) -> Sampling:
    """The same with a seed, so that asking again gives the same reply."""
    return sampling if sampling.seed is not None else replace(sampling, seed=secrets.randbits(63))
