"""Readers of embeddings: encode an image, read its rows as the LLM service does, compare them with the model's own."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
import torch

from bench.soak.replicas import MESSAGE_BYTES, Replicas
from internvl.common.v1 import visual_pb2
from internvl.errors import DeadlineExceeded, EmbeddingNotFound, InternvlError, NotFound, ResourceExhausted, Unavailable
from internvl.transport.status import from_call_error
from internvl.vision.v1 import vision_pb2, vision_pb2_grpc
from llm_service.conversation import Visual
from llm_service.embeddings import EmbeddingLoader
from shared.store.embedding_store import EmbeddingStore
from shared.store.redis_store import RedisStore

HIDDEN_SIZE = 64
PATIENCE_SECONDS = 30.0
_ALLOWED = (NotFound, ResourceExhausted, Unavailable)
"""Errors that a request may get while Redis fails or a replica is gone."""


@dataclass
class Outcome:
    """Counts of what the readers saw."""

    right: int = 0
    wrong: int = 0
    hanging: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    cached: int = 0
    slowest_seconds: float = 0.0
    first_memory_bytes: int = 0
    last_memory_bytes: int = 0

    @property
    def is_good(self) -> bool:
        return self.right > 0 and not (self.wrong or self.hanging or self.unexpected)


class Readers:
    """Requests, one after the other in each of several tasks."""

    def __init__(self, replicas: Replicas, redis_url: str, rows: dict[bytes, torch.Tensor], outcome: Outcome) -> None:
        self._replicas = replicas
        self._rows = rows
        self._outcome = outcome
        self._redis = RedisStore(redis_url)
        store = EmbeddingStore(self._redis, seconds=600)
        self._loader = EmbeddingLoader(store, hidden_size=HIDDEN_SIZE, max_message_bytes=MESSAGE_BYTES)

    async def run(self, generator: random.Random, is_over: Callable[[], bool]) -> None:
        """Looks at some images often and at others seldom."""
        pictures = list(self._rows)
        while not is_over():
            picture = pictures[min(int(generator.expovariate(1 / 12)), len(pictures) - 1)]
            await self.one(picture, self._replicas.any_address(generator))

    async def one(self, picture: bytes, address: str) -> bool:
        """One request, noted in the outcome; whether its rows came and were right."""
        outcome, started = self._outcome, time.monotonic()
        try:
            async with asyncio.timeout(2 * PATIENCE_SECONDS):
                rows = await self._read_or_encode_again(picture, address)
        except (TimeoutError, DeadlineExceeded):
            outcome.hanging += 1
        except _ALLOWED as error:
            outcome.refused[error.reason()] += 1
        except InternvlError as error:
            outcome.unexpected[f"{error.reason()} {error.message}"] += 1
        else:
            is_right = rows.shape == self._rows[picture].shape and torch.allclose(rows, self._rows[picture], atol=1e-4)
            outcome.right += is_right
            outcome.wrong += not is_right
            return is_right
        finally:
            outcome.slowest_seconds = max(outcome.slowest_seconds, time.monotonic() - started)
        return False

    async def close(self) -> None:
        await self._loader.close()
        await self._redis.close()

    async def _read_or_encode_again(self, picture: bytes, address: str) -> torch.Tensor:
        try:
            return await self._read(await self._encode(picture, address))
        except EmbeddingNotFound:
            return await self._read(await self._encode(picture, address))

    async def _encode(self, picture: bytes, address: str) -> visual_pb2.EmbeddingReference:
        stub = vision_pb2_grpc.VisionServiceStub(self._replicas.channel(address))
        request = vision_pb2.EncodeRequest(tenant="soak", data=picture)
        try:
            response = await stub.Encode(request, timeout=PATIENCE_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise from_call_error(error) from error
        self._outcome.cached += response.cached
        return response.embedding

    async def _read(self, found: visual_pb2.EmbeddingReference) -> torch.Tensor:
        visual = Visual(
            found.key, found.tokens_per_tile, (found.tile_count,), is_clip=False, increment=256, holder=found.holder
        )
        return await self._loader.load(visual, 0, visual.token_count)
