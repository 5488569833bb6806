"""The services behind the gateway: channels, calls, and whether the two fit together.

A call carries the request's ids and the time it has left, and fails with an error of shared/errors.py. Both services
are asked again and again what they serve, so a replica that comes back with another checkpoint is never paired. One
address each for now: which replica answers is decided here and nowhere else.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self

import grpc

from gateway.deadline import Deadline
from gateway.media import MediaKind, Medium
from gateway.settings import GatewaySettings
from gateway.translation import Encoded, at_medium, encode_request, encode_video_request, encoded
from shared.channel import open_channel
from shared.errors import BackendUnavailable, InternvlError, ModelMismatch, Unavailable
from shared.pb.internvl.common.v1.visual_pb2 import ModelInfo
from shared.pb.internvl.llm.v1 import llm_pb2, llm_pb2_grpc
from shared.pb.internvl.vision.v1 import vision_pb2, vision_pb2_grpc
from shared.status import from_call_error
from shared.telemetry import outgoing_metadata

log = logging.getLogger(__name__)
_INFO_SECONDS = 5.0
_PAIRED = ("model", "revision", "fingerprint", "hidden_size", "tokens_per_tile")


class Backends:
    """Both services. Open while its context lasts."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._check_seconds = settings.backend_check_seconds
        limit = settings.max_message_bytes
        self._channels = [
            open_channel(address, max_message_bytes=limit)
            for address in (settings.vision_address, settings.llm_address)
        ]
        self._vision = vision_pb2_grpc.VisionServiceStub(self._channels[0])
        self._llm = llm_pb2_grpc.LlmServiceStub(self._channels[1])
        self._pairing: ModelInfo | Unavailable = BackendUnavailable("the services behind the gateway are not there yet")
        self._doubt = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for channel in self._channels:
            await channel.close()

    def model_info(self) -> ModelInfo:
        """What both serve. Raises ModelMismatch or BackendUnavailable while they do not agree or are not there."""
        if isinstance(self._pairing, Unavailable):
            raise type(self._pairing)(self._pairing.message, metadata=self._pairing.metadata)
        return self._pairing

    async def watch(self, on_change: Callable[[bool], Awaitable[None]]) -> None:
        """Tells `on_change` whether chats can be answered, whenever that changes. Runs until cancelled."""
        while True:
            before, self._pairing = self._pairing, await self._check()
            if _differs(before, self._pairing):
                self._log_pairing()
                await on_change(isinstance(self._pairing, ModelInfo))
            self._doubt.clear()
            await _wait(self._doubt, self._check_seconds)

    async def encode(self, medium: Medium, tenant: str, deadline: Deadline) -> Encoded:
        """The embedding of a picture or clip."""
        try:
            if medium.kind is MediaKind.IMAGE:
                request = encode_request(medium, tenant)
                return encoded(
                    await self._vision.Encode(request, timeout=deadline.remaining(), metadata=outgoing_metadata())
                )
            video_request = encode_video_request(medium, tenant)
            return encoded(
                await self._vision.EncodeVideo(
                    video_request, timeout=deadline.remaining(), metadata=outgoing_metadata()
                )
            )
        except grpc.aio.AioRpcError as error:
            raise at_medium(self._translate(error), medium) from error

    async def put_media(self, requests: AsyncIterator[vision_pb2.PutMediaRequest], deadline: Deadline) -> str:
        """The id of a file that is sent on chunk by chunk."""
        call = self._vision.PutMedia(requests, timeout=deadline.remaining(), metadata=outgoing_metadata())
        try:
            return (await call).media_id
        except grpc.aio.AioRpcError as error:
            raise self._translate(error) from error
        finally:
            call.cancel()

    async def generate(
        self, request: llm_pb2.GenerateRequest, deadline: Deadline
    ) -> AsyncGenerator[llm_pb2.GenerateResponse, None]:
        """The events of a reply. Closing the iterator cancels the call."""
        call = self._llm.Generate(request, timeout=deadline.remaining(), metadata=outgoing_metadata())
        try:
            async for event in call:
                yield event
        except grpc.aio.AioRpcError as error:
            raise self._translate(error) from error
        finally:
            call.cancel()

    def _translate(self, error: grpc.aio.AioRpcError) -> InternvlError:
        known = from_call_error(error)
        if isinstance(known, Unavailable):
            self._doubt.set()
        return known

    async def _check(self) -> ModelInfo | Unavailable:
        vision, llm = await asyncio.gather(self._vision_info(), self._llm_info())
        if isinstance(vision, Unavailable):
            return vision
        if isinstance(llm, Unavailable):
            return llm
        return _paired(vision, llm)

    async def _vision_info(self) -> ModelInfo | Unavailable:
        try:
            response = await self._vision.GetModelInfo(vision_pb2.GetModelInfoRequest(), timeout=_INFO_SECONDS)
        except grpc.aio.AioRpcError:
            return BackendUnavailable("the vision service cannot be reached")
        return response.info

    async def _llm_info(self) -> ModelInfo | Unavailable:
        try:
            response = await self._llm.GetModelInfo(llm_pb2.GetModelInfoRequest(), timeout=_INFO_SECONDS)
        except grpc.aio.AioRpcError:
            return BackendUnavailable("the LLM service cannot be reached")
        return response.info

    def _log_pairing(self) -> None:
        if isinstance(self._pairing, ModelInfo):
            log.info("backends agree", extra={"model": self._pairing.model, "fingerprint": self._pairing.fingerprint})
        else:
            log.warning("backends not ready", extra={"cause": self._pairing.message})


def _paired(vision: ModelInfo, llm: ModelInfo) -> ModelInfo | ModelMismatch:
    differing = [name for name in _PAIRED if getattr(vision, name) != getattr(llm, name)]
    if not differing:
        return llm
    return ModelMismatch(
        f"vision and LLM service serve different checkpoints: {', '.join(differing)} differ",
        metadata={"vision_model": vision.model, "llm_model": llm.model},
    )


def _differs(before: ModelInfo | Unavailable, now: ModelInfo | Unavailable) -> bool:
    if isinstance(before, Unavailable) and isinstance(now, Unavailable):
        return (type(before), before.message) != (type(now), now.message)
    return before != now


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
