"""Fetching the rows of a request's images, for any engine."""

import asyncio
from collections.abc import Sequence

import torch

from internvl.errors import EmbeddingNotFound
from llm_service.engine.interface import VisualInput


async def load_rows(wanted: Sequence[tuple[VisualInput, int]]) -> list[torch.Tensor]:
    """Rows of each visual from the given one of its span to the last, all visuals at once.

    Raises EmbeddingNotFound with every key that is gone, else what the first that failed raised.
    """
    results = await asyncio.gather(*(_load(visual, first) for visual, first in wanted), return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    gone = [key for failure in failures if isinstance(failure, EmbeddingNotFound) for key in failure.keys]
    if failures:
        raise EmbeddingNotFound.of(list(dict.fromkeys(gone))) if gone else failures[0]
    return [result for result in results if not isinstance(result, BaseException)]


async def _load(visual: VisualInput, first: int) -> torch.Tensor:
    return await visual.load(visual.first_row + first, visual.first_row + visual.span.token_count)
