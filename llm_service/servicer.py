"""LlmService: protobuf in, protobuf out. Only translates."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from tokenizers import Tokenizer

from internvl.common.v1 import sampling_pb2, visual_pb2
from internvl.llm.v1 import llm_pb2, llm_pb2_grpc
from llm_service.detokenizer import token_bytes
from llm_service.engine.interface import FinishReason, GeneratedToken, Logprob
from llm_service.generation import Delta, Event, Finished, Generator, Started
from llm_service.positions import TICKS
from llm_service.validation import generation_request

_REASONS = {
    FinishReason.STOP: sampling_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: sampling_pb2.FINISH_REASON_LENGTH,
}


class LlmServicer(llm_pb2_grpc.LlmServiceServicer):
    """Serves one generator."""

    def __init__(
        self, generator: Generator, tokenizer: Tokenizer, info: visual_pb2.ModelInfo, *, default_increment: int
    ) -> None:
        self._generator = generator
        self._tokenizer = tokenizer
        self._info = info
        self._default_increment = default_increment

    async def Generate(  # noqa: N802
        self, request: llm_pb2.GenerateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[llm_pb2.GenerateResponse]:
        wanted = generation_request(request, default_increment=self._default_increment)
        async with aclosing(self._generator.generate(wanted)) as events:
            async for event in events:
                yield self._response(event)

    async def GetModelInfo(  # noqa: N802
        self, request: llm_pb2.GetModelInfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> llm_pb2.GetModelInfoResponse:
        return llm_pb2.GetModelInfoResponse(info=self._info)

    async def GetStatus(  # noqa: N802
        self, request: llm_pb2.GetStatusRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> llm_pb2.GetStatusResponse:
        status = self._generator.status()
        return llm_pb2.GetStatusResponse(
            waiting_request_count=status.waiting_count,
            running_request_count=status.running_count,
            page_count=status.page_count,
            used_page_count=status.used_page_count,
        )

    def _response(self, event: Event) -> llm_pb2.GenerateResponse:
        match event:
            case Started():
                started = llm_pb2.Started(prompt_token_count=event.prompt_token_count, seed=event.seed)
                return llm_pb2.GenerateResponse(started=started)
            case Delta():
                return llm_pb2.GenerateResponse(delta=self._delta(event))
            case Finished():
                return llm_pb2.GenerateResponse(finished=_finished(event))

    def _delta(self, delta: Delta) -> llm_pb2.Delta:
        if delta.token is None:
            return llm_pb2.Delta(text=delta.text)
        return llm_pb2.Delta(
            text=delta.text, token_ids=[delta.token.token_id], logprobs=list(self._logprobs(delta.token))
        )

    def _logprobs(self, token: GeneratedToken) -> list[sampling_pb2.TokenLogprob]:
        if token.logprob is None:
            return []
        chosen = self._logprob(token.logprob)
        chosen.alternatives.extend(map(self._logprob, token.alternatives))
        return [chosen]

    def _logprob(self, logprob: Logprob) -> sampling_pb2.TokenLogprob:
        return sampling_pb2.TokenLogprob(
            token_id=logprob.token_id, token=token_bytes(self._tokenizer, logprob.token_id), logprob=logprob.logprob
        )


def _finished(event: Finished) -> llm_pb2.Finished:
    usage = sampling_pb2.Usage(
        prompt_token_count=event.prompt_token_count,
        cached_token_count=event.cached_token_count,
        visual_token_count=event.visual_token_count,
        completion_token_count=event.completion_token_count,
        position_increments=[ticks / TICKS for ticks in event.increments],
    )
    return llm_pb2.Finished(reason=_REASONS[event.reason], usage=usage, queue_seconds=event.queue_seconds)
