"""One turn end to end: step 11 of the data's path, and the order of everything before it.

    check -> fetch -> media -> encode all at once -> Started -> generate -> Delta ... -> Finished

Knows no gRPC context: who asks and until when is handed in. Closing the events stops the work of both services.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing

from gateway.media.fetcher import Fetcher
from gateway.media.files import Medium, distinct, read_media
from gateway.metrics import CHAT_SECONDS, COMPLETION_TOKENS, ENCODE_SECONDS, FIRST_TOKEN_SECONDS
from gateway.placeholders import warnings
from gateway.replicas.affinity import conversation_key
from gateway.replicas.backends import Backends
from gateway.replicas.reply import Reply
from gateway.reply_events import ReplyEvents
from gateway.request_limits import RequestLimits
from gateway.translation import Encoded, generate_request
from gateway.validation import check_request
from internvl.chat.v1 import chat_pb2
from internvl.errors import EmbeddingNotFound, InternvlError
from internvl.llm.v1 import llm_pb2
from internvl.transport.deadline import Deadline
from internvl.transport.tasks import first_failure

Embeddings = dict[Medium, Encoded]


class Chat:
    """Answers conversations with the services behind the gateway."""

    def __init__(self, backends: Backends, limits: RequestLimits, fetcher: Fetcher) -> None:
        self._backends = backends
        self._limits = limits
        self._fetcher = fetcher

    async def answer(
        self,
        request: chat_pb2.ChatRequest,
        *,
        tenant: str,
        deadline: Deadline,
        spend: Callable[[int], None] = lambda _token_count: None,
    ) -> AsyncGenerator[chat_pb2.ChatResponse, None]:
        """One Started, any number of Delta, one Finished. Raises an InternvlError at any point instead.

        `spend` gets the prompt's tokens when they are accepted, and the reply's as they come.
        """
        clock = _Clock()
        check_request(request, self._limits)
        request = await self._fetcher.filled(request, self._limits)
        media = await read_media(request, tenant, self._limits)
        model = self._backends.model_info().model
        turn = _Turn(self._backends, tenant, deadline)
        embeddings = await turn.encode(distinct(media))
        clock.encoded()
        told = ReplyEvents(request, [embeddings[medium] for medium in media])
        yield told.started(model, warnings(request))
        async with aclosing(turn.generate(request, media, embeddings)) as events:
            async for event in events:
                if event.HasField("started"):
                    spend(event.started.prompt_token_count)
                elif event.HasField("delta"):
                    clock.tokens(len(event.delta.token_ids))
                    spend(len(event.delta.token_ids))
                    if (response := told.delta(event.delta)) is not None:
                        yield response
                elif event.HasField("finished"):
                    yield told.finished(event.finished, clock.timing())


class _Turn:
    """The calls of one request."""

    def __init__(self, backends: Backends, tenant: str, deadline: Deadline) -> None:
        self._backends = backends
        self._tenant = tenant
        self._deadline = deadline

    async def encode(self, media: Iterable[Medium]) -> Embeddings:
        """All at once; the first failure stops the rest."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {
                    medium: group.create_task(self._backends.encode(medium, self._tenant, self._deadline))
                    for medium in media
                }
        except* InternvlError as failures:
            raise first_failure(failures) from None
        return {medium: task.result() for medium, task in tasks.items()}

    def generate(
        self, request: chat_pb2.ChatRequest, media: Sequence[Medium], embeddings: Embeddings
    ) -> AsyncGenerator[llm_pb2.GenerateResponse, None]:
        """The reply. Embeddings that are lost meanwhile are made again."""

        async def restore(error: EmbeddingNotFound) -> llm_pb2.GenerateRequest:
            nonlocal embeddings
            embeddings = embeddings | await self.encode(_lost(error, embeddings))
            return generate_request(request, self._tenant, media, embeddings)

        reply = Reply(generate_request(request, self._tenant, media, embeddings))
        return self._backends.generate(reply, conversation_key(request, self._tenant, media), self._deadline, restore)


class _Clock:
    """Durations since the request came."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._timing = chat_pb2.Timing()

    def encoded(self) -> None:
        self._timing.encode_seconds = self._elapsed()
        ENCODE_SECONDS.observe(self._timing.encode_seconds)

    def tokens(self, count: int) -> None:
        COMPLETION_TOKENS.inc(count)
        if not self._timing.first_token_seconds:
            self._timing.first_token_seconds = self._elapsed()
            FIRST_TOKEN_SECONDS.observe(self._timing.first_token_seconds)

    def timing(self) -> chat_pb2.Timing:
        self._timing.total_seconds = self._elapsed()
        CHAT_SECONDS.observe(self._timing.total_seconds)
        return self._timing

    def _elapsed(self) -> float:
        return time.monotonic() - self._start


def _lost(error: EmbeddingNotFound, embeddings: Embeddings) -> list[Medium]:
    """The media whose embeddings are gone; all of them if the error does not say."""
    named = [medium for medium, found in embeddings.items() if found.embedding.key in error.keys]
    return named or list(embeddings)
