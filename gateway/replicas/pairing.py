"""Pairs of replicas of the two services that belong together. Pure.

Replicas are paired by what they serve. Of several checkpoints that both services have, the one in use stays in use
while it is whole, else the one with the most replicas is taken: a roll-out moves over once, and a stray replica with
another checkpoint is left out.
"""

from collections import Counter
from collections.abc import Sequence

from internvl.common.v1.visual_pb2 import ModelInfo
from internvl.errors import BackendUnavailable, ModelMismatch, Unavailable

_PAIRED = ("model", "revision", "fingerprint", "hidden_size", "tokens_per_tile")

Identity = tuple[str | int, ...]


def identity(info: ModelInfo) -> Identity:
    """Identity that two replicas must have in common."""
    return tuple(getattr(info, name) for name in _PAIRED)


def pair(vision: Sequence[ModelInfo], llm: Sequence[ModelInfo], current: ModelInfo | None) -> ModelInfo | Unavailable:
    """The model that both serve, as the LLM service describes it; else why there is none."""
    if not vision:
        return BackendUnavailable("the vision service cannot be reached")
    if not llm:
        return BackendUnavailable("the LLM service cannot be reached")
    counts = Counter(map(identity, vision)), Counter(map(identity, llm))
    whole = counts[0].keys() & counts[1].keys()
    if not whole:
        return _mismatch(vision[0], llm[0])
    if current is not None and identity(current) in whole:
        chosen = identity(current)
    else:
        chosen = max(whole, key=lambda each: (min(count[each] for count in counts), str(each)))
    return next(info for info in llm if identity(info) == chosen)


def _mismatch(vision: ModelInfo, llm: ModelInfo) -> ModelMismatch:
    differing = [name for name in _PAIRED if getattr(vision, name) != getattr(llm, name)]
    return ModelMismatch(
        f"vision and LLM service serve different checkpoints: {', '.join(differing)} differ",
        metadata={"vision_model": vision.model, "llm_model": llm.model},
    )
