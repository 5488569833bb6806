"""ChatService and MediaService: only translates between gRPC and `gateway.chat`."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from gateway.admission import Admission
from gateway.backends import Backends
from gateway.chat import Chat
from gateway.deadline import Deadline
from gateway.media import MediaKind, too_large
from shared.errors import BadOption, InternvlError
from shared.pb.internvl.chat.v1 import chat_pb2, chat_pb2_grpc
from shared.pb.internvl.vision.v1 import vision_pb2

_KINDS = {chat_pb2.MEDIA_KIND_IMAGE: MediaKind.IMAGE, chat_pb2.MEDIA_KIND_VIDEO: MediaKind.VIDEO}


class ChatServicer(chat_pb2_grpc.ChatServiceServicer):
    """Conversations."""

    def __init__(self, chat: Chat, backends: Backends, admission: Admission, *, tenant: str) -> None:
        self._chat = chat
        self._backends = backends
        self._admission = admission
        self._tenant = tenant

    async def Chat(  # noqa: N802
        self, request: chat_pb2.ChatRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[chat_pb2.ChatResponse]:
        deadline = Deadline.after(context.time_remaining())
        with self._admission.enter():
            async with aclosing(self._chat.answer(request, tenant=self._tenant, deadline=deadline)) as events:
                async for event in events:
                    yield event

    async def GetModelInfo(  # noqa: N802
        self, request: chat_pb2.GetModelInfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> chat_pb2.GetModelInfoResponse:
        return chat_pb2.GetModelInfoResponse(info=self._backends.model_info())


class MediaServicer(chat_pb2_grpc.MediaServiceServicer):
    """Uploads, streamed on to the vision service."""

    def __init__(self, backends: Backends, *, tenant: str, max_bytes: int) -> None:
        self._backends = backends
        self._tenant = tenant
        self._max_bytes = max_bytes

    async def Upload(  # noqa: N802
        self, request_iterator: AsyncIterator[chat_pb2.UploadRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> chat_pb2.UploadResponse:
        try:
            header = await self._header(request_iterator)
        except InternvlError:
            await _discard(request_iterator, self._max_bytes)
            raise
        requests = _put_requests(self._tenant, header.size_bytes, request_iterator)
        identifier = await self._backends.put_media(requests, Deadline.after(context.time_remaining()))
        return chat_pb2.UploadResponse(id=identifier)

    async def _header(self, requests: AsyncIterator[chat_pb2.UploadRequest]) -> chat_pb2.UploadHeader:
        first = await anext(aiter(requests), None)
        if first is None or not first.HasField("header"):
            raise BadOption("an upload begins with its header", field="header")
        header = first.header
        if header.kind not in _KINDS:
            raise BadOption("an upload needs a kind", field="header.kind")
        if header.size_bytes < 1:
            raise BadOption("an upload needs at least one byte", field="header.size_bytes")
        if header.size_bytes > self._max_bytes:
            raise too_large(_KINDS[header.kind], self._max_bytes, "header.size_bytes")
        return header


async def _discard(requests: AsyncIterator[chat_pb2.UploadRequest], max_bytes: int) -> None:
    """Lets a client end its writing: one that is refused while it writes may see INTERNAL in place of our status."""
    discarded = 0
    async for request in requests:
        discarded += len(request.chunk)
        if discarded > max_bytes:
            return


async def _put_requests(
    tenant: str, size_bytes: int, requests: AsyncIterator[chat_pb2.UploadRequest]
) -> AsyncIterator[vision_pb2.PutMediaRequest]:
    yield vision_pb2.PutMediaRequest(header=vision_pb2.PutMediaHeader(tenant=tenant, size_bytes=size_bytes))
    async for request in requests:
        yield vision_pb2.PutMediaRequest(chunk=request.chunk)
