"""ChatService and MediaService: only translates between gRPC and `gateway.chat`."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Any

import grpc

from gateway.chat import Chat
from gateway.media.files import MediaKind, too_large
from gateway.replicas.backends import Backends
from gateway.tenancy.admission import Admission
from gateway.tenancy.tenants import Tenant, Tenants, one_authorization
from internvl.chat.v1 import chat_pb2, chat_pb2_grpc
from internvl.errors import BadOption, InternvlError
from internvl.transport.deadline import Deadline
from internvl.vision.v1 import vision_pb2

Context = grpc.aio.ServicerContext[Any, Any]

_KINDS = {chat_pb2.MEDIA_KIND_IMAGE: MediaKind.IMAGE, chat_pb2.MEDIA_KIND_VIDEO: MediaKind.VIDEO}


class ChatServicer(chat_pb2_grpc.ChatServiceServicer):
    """Conversations."""

    def __init__(self, chat: Chat, backends: Backends, admission: Admission, tenants: Tenants) -> None:
        self._chat = chat
        self._backends = backends
        self._admission = admission
        self._tenants = tenants

    async def Chat(  # noqa: N802
        self, request: chat_pb2.ChatRequest, context: Context
    ) -> AsyncIterator[chat_pb2.ChatResponse]:
        deadline = Deadline.after(context.time_remaining())
        tenant = identified(self._tenants, context)
        async with self._admission.enter(tenant, size_bytes=request.ByteSize()) as visit:
            events = self._chat.answer(request, tenant=tenant.name, deadline=deadline, spend=visit.spend)
            async with aclosing(events):
                async for event in events:
                    yield event

    async def GetModelInfo(  # noqa: N802
        self, request: chat_pb2.GetModelInfoRequest, context: Context
    ) -> chat_pb2.GetModelInfoResponse:
        identified(self._tenants, context)
        return chat_pb2.GetModelInfoResponse(info=self._backends.model_info())


class MediaServicer(chat_pb2_grpc.MediaServiceServicer):
    """Uploads, streamed on to the vision service."""

    def __init__(self, backends: Backends, admission: Admission, tenants: Tenants, *, max_bytes: int) -> None:
        self._backends = backends
        self._admission = admission
        self._tenants = tenants
        self._max_bytes = max_bytes

    async def Upload(  # noqa: N802
        self, request_iterator: AsyncIterator[chat_pb2.UploadRequest], context: Context
    ) -> chat_pb2.UploadResponse:
        async with AsyncExitStack() as visit:
            try:
                tenant = identified(self._tenants, context)
                header = await self._header(request_iterator)
                await visit.enter_async_context(self._admission.enter(tenant, size_bytes=header.size_bytes))
            except InternvlError:
                await _discard(request_iterator, self._max_bytes)
                raise
            requests = _put_requests(tenant.name, header.size_bytes, request_iterator)
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


def identified(tenants: Tenants, context: Context) -> Tenant:
    """The tenant of a call. Raises KeyMissing, KeyUnknown, TenantSuspended."""
    entries = context.invocation_metadata() or ()
    sent = [value for name, value in entries if name == "authorization" and isinstance(value, str)]
    return tenants.identify(one_authorization(sent))


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
