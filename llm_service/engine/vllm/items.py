"""Names of images for vLLM's caches, and a check of rows that it must never see. Pure: knows nothing of vLLM.

vLLM dies, for everybody, of rows that do not fit their placeholders, and streams nonsense made of NaN. It keeps keys
and values by token ids, the identifiers of the images among them and a salt, and rows by identifier alone.
"""

import hashlib

import torch

from internvl.errors import EmbeddingInvalid
from llm_service.engine.interface import EngineRequest, VisualInput


def cache_salt(request: EngineRequest) -> str:
    """Names what all keys and values of the request depend on beside its tokens: tenant and rotation."""
    return f"{request.ntk_length}:{request.tenant}"


def identifier(request: EngineRequest, visual: VisualInput) -> str:
    """Equal only for the same rows at the same increment, of one tenant. Its length is fixed."""
    place = (visual.key, visual.first_row, visual.span.token_count, visual.span.increment, request.tenant)
    return hashlib.sha256(repr(place).encode()).hexdigest()


def check_rows(rows: torch.Tensor, visual: VisualInput, width: int) -> None:
    """Raises EmbeddingInvalid unless these are finite floating-point rows (token_count, width)."""
    wanted = (visual.span.token_count, width)
    if tuple(rows.shape) != wanted:
        raise EmbeddingInvalid(f"an embedding is {tuple(rows.shape)} (rows, width), expected {wanted}")
    if not rows.is_floating_point():
        raise EmbeddingInvalid(f"an embedding is {rows.dtype}, not floating point")
    lowest, highest = torch.aminmax(rows)  # a NaN is the least and the greatest of what it is among
    if not bool(torch.isfinite(lowest) & torch.isfinite(highest)):
        raise EmbeddingInvalid("an embedding holds values that are not finite")
