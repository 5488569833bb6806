"""The Python client. Needs the base install only; a server's parts are never imported here.

    async with ChatClient("127.0.0.1:50050") as client:
        session = ChatSession(client)
        async for event in session.ask("How many circles are there?", Path("picture.png")):
            ...

Errors are those of shared/errors.py.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import Literal, Self

import grpc

from gateway.conversation import Image, Message, Part, Piece, Sampling, Video, Visual, chat_request, user
from gateway.deadline import Deadline
from gateway.events import Delta, Event, Finished, Media, Started, event_of
from gateway.resend import Seen
from gateway.retry import pause_seconds
from shared.channel import open_channel
from shared.chunks import chunks
from shared.errors import BackendUnavailable, MediaExpired
from shared.pb.internvl.chat.v1 import chat_pb2, chat_pb2_grpc
from shared.pb.internvl.common.v1.visual_pb2 import ModelInfo
from shared.status import from_call_error
from shared.tls import TlsFiles, channel_credentials

__all__ = [
    "ChatClient",
    "ChatSession",
    "Delta",
    "Event",
    "Finished",
    "Image",
    "Media",
    "Message",
    "Part",
    "Piece",
    "Sampling",
    "Started",
    "TlsFiles",
    "Video",
    "Visual",
    "follow",
    "user",
]

DEFAULT_ADDRESS = "127.0.0.1:50050"
INLINE_BYTES = 4 << 20
"""A session uploads files that are larger, and refers to them by id."""
RESENDS = 6
"""How often a session asks again when the gateway is gone and nothing new came meanwhile."""
_MESSAGE_BYTES = 64 << 20
_KINDS = {"image": chat_pb2.MEDIA_KIND_IMAGE, "video": chat_pb2.MEDIA_KIND_VIDEO}


UploadProgress = Callable[[int, int], object]
"""Told of the bytes that were handed over, and of all there are."""


class ChatClient:
    """One gateway. Open while its context lasts; any number of calls at a time."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        api_key: str | None = None,
        tls: TlsFiles | None = None,
    ) -> None:
        """`tls` names who must have signed the gateway's certificate (None in it: the system's authorities), and for
        mTLS one's own certificate; without it the connection is in the clear. Raises ValueError for unusable files.
        """
        credentials = None if tls is None else channel_credentials(tls)
        self._channel = open_channel(address, max_message_bytes=_MESSAGE_BYTES, credentials=credentials)
        self._metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()
        self._chat = chat_pb2_grpc.ChatServiceStub(self._channel)
        self._media = chat_pb2_grpc.MediaServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends all calls."""
        await self._channel.close()

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        sampling: Sampling | None = None,
        visual: Visual | None = None,
        timeout: float | None = 300.0,  # noqa: ASYNC109 - it travels with the call, as its deadline
    ) -> AsyncGenerator[Event, None]:
        """Answers the last message. Closing the iterator stops the reply on the server, too."""
        request = chat_request(messages, sampling or Sampling(), visual or Visual())
        call = self._chat.Chat(request, timeout=timeout, metadata=self._metadata)
        try:
            async for response in call:
                if (event := event_of(response)) is not None:
                    yield event
        except grpc.aio.AioRpcError as error:
            raise from_call_error(error) from error
        finally:
            call.cancel()

    async def upload(
        self,
        data: bytes,
        kind: Literal["image", "video"] = "image",
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - it travels with the call, as its deadline
        on_progress: UploadProgress | None = None,
    ) -> str:
        """Sends a file in chunks; returns the id for `Image(id=...)` or `Video(id=...)`."""
        requests = _upload_requests(data, kind, on_progress)
        try:
            return (await self._media.Upload(requests, timeout=timeout, metadata=self._metadata)).id
        except grpc.aio.AioRpcError as error:
            raise from_call_error(error) from error

    async def model_info(self, *, wait_seconds: float = 5.0) -> ModelInfo:
        """What is served, and its limits."""
        try:
            request = chat_pb2.GetModelInfoRequest()
            return (await self._chat.GetModelInfo(request, timeout=wait_seconds, metadata=self._metadata)).info
        except grpc.aio.AioRpcError as error:
            raise from_call_error(error) from error


class ChatSession:
    """A conversation: keeps its history, and sends every file once.

    A turn that fails or is stopped leaves the history as it was. Files that the server no longer has are sent again,
    and so is a turn whose gateway goes: an address may name several (`ipv4:10.0.0.1:50050,10.0.0.2:50050`, a DNS name).
    """

    def __init__(
        self,
        client: ChatClient,
        *,
        system: str | None = None,
        sampling: Sampling | None = None,
        visual: Visual | None = None,
        on_upload: UploadProgress | None = None,
    ) -> None:
        self._client = client
        self._sampling = sampling
        self.visual = visual
        """How pictures are shown from the next turn on."""
        self._on_upload = on_upload
        self._history = [Message("system", (system,))] if system is not None else []
        self._ids: dict[bytes, str] = {}

    @property
    def messages(self) -> tuple[Message, ...]:
        """The history, with the bytes of every file."""
        return tuple(self._history)

    async def ask(
        self,
        *parts: Piece,
        timeout: float | None = 300.0,  # noqa: ASYNC109 - it travels with the call, as its deadline
    ) -> AsyncGenerator[Event, None]:
        """One turn. A string is text; bytes and paths are pictures."""
        question = user(*parts)
        reply = ""
        async with aclosing(self._answer([*self._history, question], timeout)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    reply += event.text
                elif isinstance(event, Finished):
                    self._history += [question, Message("assistant", (reply,))]
                yield event

    async def _answer(self, messages: Sequence[Message], seconds: float | None) -> AsyncGenerator[Event, None]:
        """Asks again when files are gone, and when the gateway is: the reader has every event once."""
        deadline, sampling = Deadline.after(seconds), _repeatable(self._sampling or Sampling())
        seen, attempt = Seen(), 0
        while True:
            may_resend = bool(self._ids)
            seen.begin()
            try:
                async with aclosing(self._events(messages, sampling, deadline.remaining())) as events:
                    async for event in events:
                        if (news := seen.news(event)) is not None:
                            attempt = 0
                            yield news
                return
            except MediaExpired:
                if not may_resend:
                    raise
                self._ids.clear()
            except BackendUnavailable:
                attempt += 1
                if attempt > RESENDS:
                    raise
                await asyncio.sleep(pause_seconds(attempt))

    async def _events(
        self, messages: Sequence[Message], sampling: Sampling, seconds: float | None
    ) -> AsyncGenerator[Event, None]:
        deadline = Deadline.after(seconds)
        sendable = [await self._sendable(message, deadline) for message in messages]
        reply = self._client.chat(sendable, sampling=sampling, visual=self.visual, timeout=deadline.remaining())
        async with aclosing(reply) as events:
            async for event in events:
                if isinstance(event, Started):
                    self._learn(messages, event.media)
                yield event

    async def _sendable(self, message: Message, deadline: Deadline) -> Message:
        return replace(message, parts=tuple([await self._sendable_part(part, deadline) for part in message.parts]))

    async def _sendable_part(self, part: Part, deadline: Deadline) -> Part:
        if isinstance(part, str) or part.digest is None or part.data is None:
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


def _upload_requests(
    data: bytes, kind: Literal["image", "video"], on_progress: UploadProgress | None
) -> Iterator[chat_pb2.UploadRequest]:
    yield chat_pb2.UploadRequest(header=chat_pb2.UploadHeader(kind=_KINDS[kind], size_bytes=len(data)))
    sent = 0
    for chunk in chunks(data):
        yield chat_pb2.UploadRequest(chunk=chunk)
        sent += len(chunk)
        if on_progress is not None:
            on_progress(sent, len(data))
