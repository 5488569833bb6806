"""Vision and LLM services that answer at once with what a test told them to, over real gRPC."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import grpc

from internvl.common.v1 import sampling_pb2, tools_pb2, visual_pb2
from internvl.errors import BadOption, EmbeddingNotFound, InternvlError, MediaExpired
from internvl.llm.v1 import llm_pb2, llm_pb2_grpc
from internvl.transport.tls import TlsFiles
from internvl.vision.v1 import vision_pb2, vision_pb2_grpc
from shared.content import content_digest, content_key, media_id
from shared.serving.rpc import Server
from shared.serving.settings import ServiceSettings

Context = grpc.aio.ServicerContext[Any, Any]


class LoopbackSettings(ServiceSettings):
    service: ClassVar[str] = "test"
    port: int = 0


def model_info(fingerprint: str = "f" * 64) -> visual_pb2.ModelInfo:
    return visual_pb2.ModelInfo(
        model="InternVL3-test",
        fingerprint=fingerprint,
        hidden_size=64,
        tokens_per_tile=16,
        max_tile_count=12,
        max_positions=512,
    )


class Fake:
    """What both have: failures to raise first, a gate to wait at, and the calls that came.

    `reached`: a call waits at the gate. `cancelled`: one was cancelled there.
    """

    def __init__(self) -> None:
        self.info = model_info()
        self.work_age_seconds = 0.0
        """Age of the work on its device, as it reports it."""
        self.checks = 0
        """How often it was asked what it serves."""
        self.failures: list[InternvlError] = []
        self.gate: asyncio.Event | None = None
        self.reached = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.deadlines: list[float | None] = []
        self.metadata: list[dict[str, str]] = []

    async def enter(self, context: Context) -> None:
        self.deadlines.append(context.time_remaining())
        metadata = context.invocation_metadata() or ()
        self.metadata.append({key: value for key, value in metadata if isinstance(value, str)})
        if self.failures:
            raise self.failures.pop(0)
        if self.gate is not None:
            self.reached.set()
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise


class FakeVision(vision_pb2_grpc.VisionServiceServicer, Fake):
    """Remembers files by id; every embedding has two tiles."""

    def __init__(self) -> None:
        super().__init__()
        self.encodes: list[vision_pb2.EncodeRequest] = []
        self.clips: list[vision_pb2.EncodeVideoRequest] = []
        self.files: dict[str, bytes] = {}
        self.seen: set[str] = set()

    async def Encode(self, request: vision_pb2.EncodeRequest, context: Context) -> vision_pb2.EncodeResponse:  # noqa: N802
        self.encodes.append(request)
        await self.enter(context)
        identifier = self._identify(request)
        cached = identifier in self.seen
        self.seen.add(identifier)
        return vision_pb2.EncodeResponse(
            embedding=_embedding(identifier),
            media_id=identifier,
            cached=cached,
            source_count=3,
            width=640,
            height=480,
        )

    async def EncodeVideo(  # noqa: N802
        self, request: vision_pb2.EncodeVideoRequest, context: Context
    ) -> vision_pb2.EncodeVideoResponse:
        self.clips.append(request)
        await self.enter(context)
        identifier = self._identify(request)
        return vision_pb2.EncodeVideoResponse(
            embedding=_embedding(identifier), media_id=identifier, frame_tile_counts=[1, 1], source_count=30
        )

    async def PutMedia(  # noqa: N802
        self, request_iterator: AsyncIterator[vision_pb2.PutMediaRequest], context: Context
    ) -> vision_pb2.PutMediaResponse:
        requests = [request async for request in request_iterator]
        data = b"".join(request.chunk for request in requests[1:])
        if len(data) != requests[0].header.size_bytes:
            raise BadOption("another length than announced", field="header.size_bytes")
        return vision_pb2.PutMediaResponse(media_id=self._keep(requests[0].header.tenant, data))

    async def ReadEmbedding(  # noqa: N802
        self, request: vision_pb2.ReadEmbeddingRequest, context: Context
    ) -> AsyncIterator[vision_pb2.ReadEmbeddingResponse]:
        if request.key:
            raise EmbeddingNotFound.of([request.key])
        yield vision_pb2.ReadEmbeddingResponse()

    async def GetModelInfo(  # noqa: N802
        self, request: vision_pb2.GetModelInfoRequest, context: Context
    ) -> vision_pb2.GetModelInfoResponse:
        self.checks += 1
        return vision_pb2.GetModelInfoResponse(info=self.info)

    async def GetStatus(  # noqa: N802
        self, request: vision_pb2.GetStatusRequest, context: Context
    ) -> vision_pb2.GetStatusResponse:
        return vision_pb2.GetStatusResponse(batch_age_seconds=self.work_age_seconds)

    def _identify(self, request: vision_pb2.EncodeRequest | vision_pb2.EncodeVideoRequest) -> str:
        if request.HasField("data"):
            return self._keep(request.tenant, request.data)
        if request.media_id not in self.files:
            raise MediaExpired("gone", metadata={"media_id": request.media_id})
        return request.media_id

    def _keep(self, tenant: str, data: bytes) -> str:
        identifier = media_id(tenant, content_digest(data))
        self.files[identifier] = data
        return identifier


class FakeLlm(llm_pb2_grpc.LlmServiceServicer, Fake):
    """Says `words`, each one token, from the one on that a request resumes at; the gate is after the first of a call.

    `tail` is text that no token stands for. `late_failures` are raised one a call, after its first word.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[llm_pb2.GenerateRequest] = []
        self.words: list[str | tools_pb2.ToolCallDelta] = ["two ", "circles"]
        """Pieces of calls are tokens, too."""
        self.tail = ""
        self.late_failures: list[InternvlError] = []
        self.end_failures: list[InternvlError] = []

    async def Generate(  # noqa: N802
        self, request: llm_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[llm_pb2.GenerateResponse]:
        self.requests.append(request)
        gate, self.gate = self.gate, None
        await self.enter(context)
        self.gate = gate
        seed = request.sampling.seed if request.sampling.HasField("seed") else 41
        yield llm_pb2.GenerateResponse(started=llm_pb2.Started(prompt_token_count=7, seed=seed))
        for index in range(len(request.resume_token_ids), len(self.words)):
            word = self.words[index]
            delta = llm_pb2.Delta(token_ids=[index])
            if isinstance(word, str):
                delta.text = word
            else:
                delta.tool_calls.append(word)
            yield llm_pb2.GenerateResponse(delta=delta)
            if self.late_failures:
                raise self.late_failures.pop(0)
            await self.enter(context)
        if self.tail:
            yield llm_pb2.GenerateResponse(delta=llm_pb2.Delta(text=self.tail))
        if self.end_failures:
            raise self.end_failures.pop(0)
        usage = sampling_pb2.Usage(prompt_token_count=7, completion_token_count=len(self.words))
        calls = any(not isinstance(word, str) for word in self.words)
        reason = sampling_pb2.FINISH_REASON_TOOL_CALLS if calls else sampling_pb2.FINISH_REASON_STOP
        yield llm_pb2.GenerateResponse(finished=llm_pb2.Finished(reason=reason, usage=usage))

    async def GetModelInfo(  # noqa: N802
        self, request: llm_pb2.GetModelInfoRequest, context: Context
    ) -> llm_pb2.GetModelInfoResponse:
        self.checks += 1
        return llm_pb2.GetModelInfoResponse(info=self.info)

    async def GetStatus(  # noqa: N802
        self, request: llm_pb2.GetStatusRequest, context: Context
    ) -> llm_pb2.GetStatusResponse:
        return llm_pb2.GetStatusResponse(step_age_seconds=self.work_age_seconds)


def tls_settings(tls: TlsFiles | None) -> dict[str, Any]:
    """Of a server that wants certificates of its own authority."""
    if tls is None:
        return {}
    return {"tls_certificate": tls.certificate, "tls_key": tls.key, "tls_client_ca": tls.authority}


def peer_settings(tls: TlsFiles | None) -> dict[str, Any]:
    """Of a service that calls such servers."""
    if tls is None:
        return {}
    return {"peer_certificate": tls.certificate, "peer_key": tls.key, "peer_ca": tls.authority}


@asynccontextmanager
async def serving(
    fake: FakeVision | FakeLlm, port: int = 0, host: str = "127.0.0.1", tls: TlsFiles | None = None
) -> AsyncIterator[str]:
    """The fake on loopback; its address. With `tls` it wants certificates of its own authority."""
    server = Server(LoopbackSettings(host=host, port=port, **tls_settings(tls)))
    await server.set_serving([], serving=True)
    if isinstance(fake, FakeVision):
        vision_pb2_grpc.add_VisionServiceServicer_to_server(fake, server.grpc)
    else:
        llm_pb2_grpc.add_LlmServiceServicer_to_server(fake, server.grpc)
    await server.grpc.start()
    try:
        yield f"{host}:{server.port}"
    finally:
        await server.grpc.stop(0)


def _embedding(identifier: str) -> visual_pb2.EmbeddingReference:
    return visual_pb2.EmbeddingReference(key=content_key(identifier), tile_count=2, tokens_per_tile=16)
