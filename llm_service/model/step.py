"""Input of the model for one step. Made on the CPU; the ranks of a model get it as bytes.

Legend: T tokens of the step, S sequences in it laid end to end (vLLM's and flash-attn's names in brackets), V visual
tokens, R rows sampled, E hidden size.
"""

from dataclasses import dataclass, fields, replace

import safetensors.torch
import torch

_ON_HOST = {"ntk_lengths", "query_lens", "seq_lens"}
"""Read by Python and by kernels of the CPU; they stay there."""


@dataclass(frozen=True)
class StepInput:
    """One step's tokens, where each goes in the cache, and what its sequence can see there."""

    token_ids: torch.Tensor
    """int64 (T,); what visual slots hold is overwritten by visual_rows."""
    positions: torch.Tensor
    """float32 (T,)."""
    slot_mapping: torch.Tensor
    """int64 (T,): place of each token in the cache, page * page size + place in the page."""
    query_lens: torch.Tensor
    """int64 (S,): tokens of each sequence in this step, T in sum (their borders: cu_seqlens_q)."""
    seq_lens: torch.Tensor
    """int64 (S,): tokens each sequence has in the cache after this step; its queries are the last of them."""
    page_tables: torch.Tensor
    """int32 (S, max pages of a sequence): the pages of each in order, then zeros (block_table)."""
    ntk_lengths: torch.Tensor
    """int64 (S,): see Rotary."""
    sampled_slots: torch.Tensor
    """int64 (R,): the tokens whose logits are wanted."""
    visual_slots: torch.Tensor
    """int64 (V,): which of the T tokens are visual."""
    visual_rows: torch.Tensor | None = None
    """(V, E); None if V is 0."""

    def to(self, device: torch.device) -> "StepInput":
        """The same with the tensors that the device reads on `device`."""
        moved = {name: tensor.to(device) for name, tensor in self._tensors().items() if name not in _ON_HOST}
        return replace(self, **moved)

    def to_bytes(self) -> bytes:
        """In safetensors' format."""
        return safetensors.torch.save({name: tensor.contiguous() for name, tensor in self._tensors().items()})

    @classmethod
    def from_bytes(cls, data: bytes) -> "StepInput":
        """The step that `to_bytes` wrote."""
        return cls(**safetensors.torch.load(data))

    def _tensors(self) -> dict[str, torch.Tensor]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}
