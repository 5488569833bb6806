"""A plan through the model: the only part of the engine that holds the model and the cache."""

from collections.abc import Sequence as Ordered

import torch

from llm_service.engine.pytorch.scheduler import Chunk
from llm_service.engine.pytorch.step_input import step_input
from llm_service.model.language import LanguageModel
from llm_service.model.ranks.followers import Followers


class Runner:
    """Runs one step at a time, in one thread, together with the other ranks of the model."""

    def __init__(self, model: LanguageModel, followers: Followers, *, page_count: int, page_size: int) -> None:
        self._model = model
        self._followers = followers
        self._page_size = page_size
        self._cache = model.new_cache(page_count, page_size)

    def run(self, chunks: Ordered[Chunk]) -> tuple[list[Chunk], torch.Tensor]:
        """Computes the chunks; returns those that want a token and their logits, float32 (S, K)."""
        inputs = step_input(chunks, self._page_size)
        self._followers.send(inputs)
        logits = self._model.forward(inputs, self._cache)
        return [chunk for chunk in chunks if chunk.wants_token], logits
