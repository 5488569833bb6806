"""One gateway's RPCs as methods: messages in, events out."""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from types import TracebackType
from typing import Literal, Self

from internvl.chat.v1 import chat_pb2, chat_pb2_grpc
from internvl.client.events import Event, event_of
from internvl.client.messages import Message, Sampling, Visual, chat_request
from internvl.client.tools import Tools
from internvl.common.v1.visual_pb2 import ModelInfo
from internvl.transport.address import with_port
from internvl.transport.channel import DEFAULT_KEEPALIVE, Keepalive, open_channel
from internvl.transport.chunks import chunks
from internvl.transport.status import translated
from internvl.transport.tls import TlsFiles, channel_credentials

DEFAULT_PORT = 50050
DEFAULT_ADDRESS = f"127.0.0.1:{DEFAULT_PORT}"
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
        keepalive: Keepalive = DEFAULT_KEEPALIVE,
    ) -> None:
        """`address` is host, host:port, or as gRPC has it; without a port the usual one is meant.

        `tls` names who must have signed the gateway's certificate (None in it: the system's authorities), and for
        mTLS one's own certificate; without it the connection is in the clear. `keepalive` says when a gateway that
        hangs counts as dead. Raises ValueError for an unusable address or file.
        """
        credentials = None if tls is None else channel_credentials(tls)
        self._channel = open_channel(
            with_port(address, DEFAULT_PORT),
            max_message_bytes=_MESSAGE_BYTES,
            credentials=credentials,
            keepalive=keepalive,
        )
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
        tools: Tools | None = None,
        timeout: float | None = 300.0,  # noqa: ASYNC109 - it travels with the call, as its deadline
    ) -> AsyncGenerator[Event, None]:
        """Answers the last message. Closing the iterator stops the reply on the server, too."""
        request = chat_request(messages, sampling or Sampling(), visual or Visual(), tools)
        call = self._chat.Chat(request, timeout=timeout, metadata=self._metadata)
        try:
            with translated():
                async for response in call:
                    if (event := event_of(response)) is not None:
                        yield event
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
        with translated():
            return (await self._media.Upload(requests, timeout=timeout, metadata=self._metadata)).id

    async def model_info(self, *, wait_seconds: float = 5.0) -> ModelInfo:
        """The model that is served, and its limits."""
        request = chat_pb2.GetModelInfoRequest()
        with translated():
            return (await self._chat.GetModelInfo(request, timeout=wait_seconds, metadata=self._metadata)).info


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
