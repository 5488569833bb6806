"""The services behind the gateway: calls to whichever replica fits, and whether the two services fit together.

A call carries the request's ids and the time it has left, and fails with an error of `internvl.errors`. A replica that
fails costs a request nothing but time: unary calls are made again, and replies resume. All replicas are asked again and
again what they serve, so one that comes back with another checkpoint is never paired.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import grpc

from gateway.media.files import MediaKind, Medium
from gateway.replicas.affinity import medium_key
from gateway.replicas.discovery import Discovery, Resolve, Target, resolve
from gateway.replicas.health import ReplicaHealth, Report, StallBound
from gateway.replicas.pairing import identity, pair
from gateway.replicas.pool import Replicas
from gateway.replicas.replica import Cancellable, Replica
from gateway.replicas.reply import Reply
from gateway.replicas.resume import Restore, resumed
from gateway.replicas.retry_budget import RetryBudget
from gateway.replicas.route import Route
from gateway.settings import GatewaySettings
from gateway.translation import Encoded, at_medium, encode_request, encode_video_request, encoded
from internvl.common.v1.visual_pb2 import ModelInfo
from internvl.errors import BackendUnavailable, InternvlError, Unavailable
from internvl.llm.v1 import llm_pb2, llm_pb2_grpc
from internvl.transport.channel import open_channel
from internvl.transport.deadline import Deadline
from internvl.vision.v1 import vision_pb2, vision_pb2_grpc
from shared.serving.request_context import outgoing_metadata

if TYPE_CHECKING:
    from internvl.llm.v1.llm_pb2_grpc import LlmServiceAsyncStub
    from internvl.vision.v1.vision_pb2_grpc import VisionServiceAsyncStub

log = logging.getLogger(__name__)
Stub = TypeVar("Stub")
Answer = TypeVar("Answer")
AnswerT = TypeVar("AnswerT", covariant=True)
Encodings = vision_pb2.EncodeResponse | vision_pb2.EncodeVideoResponse


class Backends:
    """Both services. Open while its context lasts; knows no replica before `watch` runs."""

    def __init__(self, settings: GatewaySettings, *, resolve: Resolve = resolve) -> None:
        self._settings = settings
        vision, llm = Target.parse(settings.vision_address), Target.parse(settings.llm_address)
        self._vision = Replicas(
            Discovery(vision, resolve),
            self._connector(vision, lambda channel: vision_pb2_grpc.VisionServiceStub(channel)),
            _ask_vision,
            RetryBudget(settings.retry_ratio, settings.retry_burst),
        )
        self._llm = Replicas(
            Discovery(llm, resolve),
            self._connector(llm, lambda channel: llm_pb2_grpc.LlmServiceStub(channel)),
            _ask_llm,
            RetryBudget(settings.retry_ratio, settings.retry_burst),
        )
        self._pairing: ModelInfo | Unavailable = BackendUnavailable("the services behind the gateway are not there yet")
        self._left_out: set[str] = set()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._vision.close()
        await self._llm.close()

    def model_info(self) -> ModelInfo:
        """The model that both serve. Raises ModelMismatch while they do not agree, BackendUnavailable while absent."""
        if isinstance(self._pairing, Unavailable):
            raise type(self._pairing)(self._pairing.message, metadata=self._pairing.metadata)
        return self._pairing

    def usable_counts(self) -> dict[str, int]:
        """Replicas that can be called, by service."""
        return {"vision": self._vision.usable_count, "llm": self._llm.usable_count}

    async def watch(self, on_change: Callable[[bool], Awaitable[None]]) -> None:
        """Finds and checks the replicas; tells `on_change` whether chats can be answered, whenever that changes.

        Runs until cancelled.
        """
        seconds = {
            "check_seconds": self._settings.backend_check_seconds,
            "resolve_seconds": self._settings.resolve_seconds,
        }
        async with asyncio.TaskGroup() as group:
            group.create_task(self._vision.watch(self._changed.set, **seconds))
            group.create_task(self._llm.watch(self._changed.set, **seconds))
            while True:
                await self._changed.wait()
                self._changed.clear()
                if self._pair_anew():
                    await on_change(isinstance(self._pairing, ModelInfo))

    async def encode(self, medium: Medium, tenant: str, deadline: Deadline) -> Encoded:
        """The embedding of a image or video."""

        def call(stub: VisionServiceAsyncStub) -> _Call[Encodings]:
            seconds, metadata = deadline.remaining(), outgoing_metadata()
            if medium.kind is MediaKind.IMAGE:
                return stub.Encode(encode_request(medium, tenant), timeout=seconds, metadata=metadata)
            return stub.EncodeVideo(encode_video_request(medium, tenant), timeout=seconds, metadata=metadata)

        try:
            return encoded(await _answer(self._vision, medium_key(medium), call, deadline))
        except InternvlError as error:
            raise at_medium(error, medium) from error

    async def put_media(self, requests: AsyncIterator[vision_pb2.PutMediaRequest], deadline: Deadline) -> str:
        """The id of a file that is sent on chunk by chunk, to any replica; cannot be tried again."""
        replica = await Route(self._vision, secrets.token_bytes(8)).replica(deadline)
        upload = _Upload(requests)
        call = replica.stub.PutMedia(upload.requests(), timeout=deadline.remaining(), metadata=outgoing_metadata())
        try:
            with replica.calling(call):
                return (await call).media_id
        except Unavailable as error:
            if upload.failure is not None:
                raise upload.failure from error
            replica.call_failed()
            raise

    def generate(
        self, reply: Reply, key: bytes, deadline: Deadline, restore: Restore
    ) -> AsyncGenerator[llm_pb2.GenerateResponse, None]:
        """Events of a reply, from whichever LLM replicas it takes. `key` chooses the first."""
        return resumed(reply, Route(self._llm, key), deadline, restore)

    def _connector(
        self, target: Target, make_stub: Callable[[grpc.aio.Channel], Stub]
    ) -> Callable[[str], Replica[Stub]]:
        tls = self._settings.peer_tls()
        bound = StallBound(self._settings.backend_stall_seconds)

        def connect(address: str) -> Replica[Stub]:
            channel = open_channel(
                address,
                max_message_bytes=self._settings.max_message_bytes,
                credentials=None if tls is None else tls.credentials(),
                server_name="" if tls is None else tls.name or target.name,
                keepalive=self._settings.keepalive,
            )
            seconds = self._settings.backend_check_timeout_seconds
            return Replica(address, channel, make_stub(channel), ReplicaHealth(bound), check_timeout_seconds=seconds)

        return connect

    def _pair_anew(self) -> bool:
        """Settles what is served; whether that is news. Waits for the first answers of all before it says no."""
        before = self._pairing
        current = before if isinstance(before, ModelInfo) else None
        found = pair([*self._vision.infos.values()], [*self._llm.infos.values()], current)
        if isinstance(found, Unavailable) and not (self._vision.were_checked and self._llm.were_checked):
            return False
        self._pairing = found
        self._vision.identity = self._llm.identity = identity(found) if isinstance(found, ModelInfo) else None
        self._log_left_out()
        if not _differs(before, found):
            return False
        if isinstance(found, ModelInfo):
            log.info("backends agree", extra={"model": found.model, "fingerprint": found.fingerprint})
        else:
            log.warning("backends not ready", extra={"reason": found.reason(), "cause": found.message})
        return True

    def _log_left_out(self) -> None:
        """A replica that serves something else is not used: said once, by address."""
        wanted = self._llm.identity
        infos = self._vision.infos | self._llm.infos
        left_out = {address for address, info in infos.items() if wanted is not None and identity(info) != wanted}
        for address in sorted(left_out - self._left_out):
            extra = {"address": address, "model": infos[address].model, "fingerprint": infos[address].fingerprint}
            log.warning("a replica serves another checkpoint and is not used", extra=extra)
        self._left_out = left_out


class _Call(Cancellable, Protocol[AnswerT]):
    """A call of gRPC with one answer."""

    def __await__(self) -> Generator[Any, Any, AnswerT]: ...


class _Upload:
    """Requests of a client on their way to a replica. gRPC ends the call when reading fails, and does not say why."""

    def __init__(self, requests: AsyncIterator[vision_pb2.PutMediaRequest]) -> None:
        self._requests = requests
        self.failure: InternvlError | None = None

    async def requests(self) -> AsyncIterator[vision_pb2.PutMediaRequest]:
        try:
            async for request in self._requests:
                yield request
        except InternvlError as error:
            self.failure = error
            raise


async def _answer(
    replicas: Replicas[Stub],
    key: bytes,
    make_call: Callable[[Stub], _Call[Answer]],
    deadline: Deadline,
) -> Answer:
    """The answer to an idempotent call."""
    route = Route(replicas, key)
    while True:
        replica = await route.replica(deadline)
        call = make_call(replica.stub)
        try:
            with replica.calling(call):
                return await call
        except InternvlError as error:
            await route.again(replica, error, deadline)


async def _ask_vision(stub: VisionServiceAsyncStub) -> Report:
    status = await stub.GetStatus(vision_pb2.GetStatusRequest())
    return Report((await stub.GetModelInfo(vision_pb2.GetModelInfoRequest())).info, status.batch_age_seconds)


async def _ask_llm(stub: LlmServiceAsyncStub) -> Report:
    status = await stub.GetStatus(llm_pb2.GetStatusRequest())
    return Report((await stub.GetModelInfo(llm_pb2.GetModelInfoRequest())).info, status.step_age_seconds)


def _differs(before: ModelInfo | Unavailable, now: ModelInfo | Unavailable) -> bool:
    if isinstance(before, Unavailable) and isinstance(now, Unavailable):
        return (type(before), before.message) != (type(now), now.message)
    return before != now
