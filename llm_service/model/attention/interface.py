"""Attention over the paged cache: what every kernel for it takes and gives.

What a token may see is decided by its place in its sequence alone; positions never reach attention. A kernel prepares
a step once, for all its layers.

Legend: T tokens of the step, H query heads, G key-value heads, D head dim, N pages of P tokens.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from transformers import AttentionInterface

from llm_service.model.cache import PagedCache
from llm_service.model.rotary import Rotation
from llm_service.model.step import StepInput

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]
"""Query (T, H, D), one layer's keys and values (N, P, G, D) with the step's own in them, scaling -> (T, H, D)."""


class AttentionKernel(ABC):
    """One way to compute attention over pages."""

    name: ClassVar[str]
    """As settings name it."""

    @abstractmethod
    def begin(self, step: StepInput, page_size: int) -> Attend:
        """Attention for the layers of one step, whose tensors are on the kernel's device."""


@dataclass(frozen=True)
class PagedStep:
    """Shared by all layers of one step."""

    cache: PagedCache
    slot_mapping: torch.Tensor
    """int64 (T,): see StepInput."""
    rotation: Rotation
    kernel: Attend

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """Stores key and value (T, G, D), already rotated, and attends with query (T, H, D)."""
        self.cache.write(layer, self.slot_mapping, key, value)
        return self.kernel(query, self.cache.keys[layer], self.cache.values[layer], scaling)


def paged_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    paged: PagedStep,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers' layers call it: query (1, H, T, D), key and value (1, G, T, D) -> (1, T, H, D)."""
    assert attention_mask is None, "visibility comes from the step"
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    return paged.attend(layer, query, key, value, scaling)[None], None


PAGED_ATTENTION = "internvl_paged"
"""The name it is registered under."""
AttentionInterface.register(PAGED_ATTENTION, paged_attention)
