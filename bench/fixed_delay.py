"""A vision and an LLM service that take a fixed time, on one port: `python -m bench.fixed_delay SECONDS TOKENS`.

What is measured in front of them is the gateway alone.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import grpc

from internvl.common.v1 import sampling_pb2, visual_pb2
from internvl.errors import EmbeddingNotFound, MediaExpired
from internvl.llm.v1 import llm_pb2, llm_pb2_grpc
from internvl.vision.v1 import vision_pb2, vision_pb2_grpc
from shared.content import content_digest, content_key, media_id
from shared.serving.rpc import Server
from shared.serving.settings import ServiceSettings
from shared.serving.telemetry import configure_logging

Context = grpc.aio.ServicerContext[Any, Any]
INFO = visual_pb2.ModelInfo(model="fixed-delay", fingerprint="0" * 64, hidden_size=64, tokens_per_tile=256)


class FixedDelaySettings(ServiceSettings):
    """Any free port."""

    service: ClassVar[str] = "fixed-delay"
    port: int = 0
    log_level: str = "warning"


class FixedDelayLlm(llm_pb2_grpc.LlmServiceServicer):
    """Says `token_count` tokens, each after `seconds`."""

    def __init__(self, seconds: float, token_count: int) -> None:
        self._seconds = seconds
        self._token_count = token_count

    async def Generate(  # noqa: N802
        self, request: llm_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[llm_pb2.GenerateResponse]:
        yield llm_pb2.GenerateResponse(started=llm_pb2.Started(prompt_token_count=10, seed=1))
        for index in range(len(request.resume_token_ids), self._token_count):
            await asyncio.sleep(self._seconds)
            yield llm_pb2.GenerateResponse(delta=llm_pb2.Delta(text="word ", token_ids=[index]))
        usage = sampling_pb2.Usage(prompt_token_count=10, completion_token_count=self._token_count)
        finished = llm_pb2.Finished(reason=sampling_pb2.FINISH_REASON_LENGTH, usage=usage)
        yield llm_pb2.GenerateResponse(finished=finished)

    async def GetModelInfo(  # noqa: N802
        self, request: llm_pb2.GetModelInfoRequest, context: Context
    ) -> llm_pb2.GetModelInfoResponse:
        return llm_pb2.GetModelInfoResponse(info=INFO)

    async def GetStatus(  # noqa: N802
        self, request: llm_pb2.GetStatusRequest, context: Context
    ) -> llm_pb2.GetStatusResponse:
        return llm_pb2.GetStatusResponse()


class FixedDelayVision(vision_pb2_grpc.VisionServiceServicer):
    """Holds every image already."""

    async def Encode(self, request: vision_pb2.EncodeRequest, context: Context) -> vision_pb2.EncodeResponse:  # noqa: N802
        identifier = request.media_id or media_id(request.tenant, content_digest(request.data))
        embedding = visual_pb2.EmbeddingReference(key=content_key(identifier), tile_count=1, tokens_per_tile=256)
        return vision_pb2.EncodeResponse(embedding=embedding, media_id=identifier, cached=True, source_count=1)

    async def EncodeVideo(  # noqa: N802
        self, request: vision_pb2.EncodeVideoRequest, context: Context
    ) -> vision_pb2.EncodeVideoResponse:
        raise MediaExpired("only images are served here")

    async def PutMedia(  # noqa: N802
        self, request_iterator: AsyncIterator[vision_pb2.PutMediaRequest], context: Context
    ) -> vision_pb2.PutMediaResponse:
        raise MediaExpired("nothing is kept here")

    async def ReadEmbedding(  # noqa: N802
        self, request: vision_pb2.ReadEmbeddingRequest, context: Context
    ) -> AsyncIterator[vision_pb2.ReadEmbeddingResponse]:
        if request.key:
            raise EmbeddingNotFound.of([request.key])
        yield vision_pb2.ReadEmbeddingResponse()

    async def GetStatus(  # noqa: N802
        self, request: vision_pb2.GetStatusRequest, context: Context
    ) -> vision_pb2.GetStatusResponse:
        return vision_pb2.GetStatusResponse()

    async def GetModelInfo(  # noqa: N802
        self, request: vision_pb2.GetModelInfoRequest, context: Context
    ) -> vision_pb2.GetModelInfoResponse:
        return vision_pb2.GetModelInfoResponse(info=INFO)


async def main(seconds: float, token_count: int) -> None:
    """Serves until it is stopped."""
    configure_logging("fixed-delay", "info")
    server = Server(FixedDelaySettings())
    llm_pb2_grpc.add_LlmServiceServicer_to_server(FixedDelayLlm(seconds, token_count), server.grpc)
    vision_pb2_grpc.add_VisionServiceServicer_to_server(FixedDelayVision(), server.grpc)
    await server.run()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), int(sys.argv[2])))
