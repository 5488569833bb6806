"""What the model is given for one step. Made on the CPU; the ranks of a model get it as bytes."""

from dataclasses import dataclass, replace

import safetensors.torch
import torch

from llm_service.model.attention.interface import PagedContext


@dataclass(frozen=True)
class StepInput:
    """One step's tokens, those of all its sequences laid end to end.

    Legend: T tokens, V visual ones among them, E hidden size, S rows sampled.
    """

    token_ids: torch.Tensor
    """int64 (T,); what visual slots hold is overwritten by visual_rows."""
    positions: torch.Tensor
    """float32 (T,)."""
    visual_slots: torch.Tensor
    """int64 (V,): which of the T tokens are visual."""
    visual_rows: torch.Tensor | None
    """(V, E); None if V is 0."""
    sampled_slots: torch.Tensor
    """int64 (S,): the tokens whose logits are wanted."""
    ntk_lengths: list[int]
    """Of each sequence; see Rotary."""
    context: PagedContext

    def to(self, device: torch.device) -> "StepInput":
        """The same with its tensors on `device`."""
        context = replace(
            self.context, slots=self.context.slots.to(device), page_tables=self.context.page_tables.to(device)
        )
        return replace(
            self,
            token_ids=self.token_ids.to(device),
            positions=self.positions.to(device),
            visual_slots=self.visual_slots.to(device),
            visual_rows=None if self.visual_rows is None else self.visual_rows.to(device),
            sampled_slots=self.sampled_slots.to(device),
            context=context,
        )

    def to_bytes(self) -> bytes:
        """In safetensors' format."""
        context = self.context
        tensors = {
            "token_ids": self.token_ids,
            "positions": self.positions,
            "visual_slots": self.visual_slots,
            "sampled_slots": self.sampled_slots,
            "ntk_lengths": torch.tensor(self.ntk_lengths),
            "slots": context.slots,
            "query_counts": torch.tensor(context.query_counts),
            "context_counts": torch.tensor(context.context_counts),
            "page_tables": context.page_tables,
        }
        if self.visual_rows is not None:
            tensors["visual_rows"] = self.visual_rows.contiguous()
        return safetensors.torch.save(tensors)

    @classmethod
    def from_bytes(cls, data: bytes) -> "StepInput":
        """What `to_bytes` gave."""
        tensors = safetensors.torch.load(data)
        return cls(
            token_ids=tensors["token_ids"],
            positions=tensors["positions"],
            visual_slots=tensors["visual_slots"],
            visual_rows=tensors.get("visual_rows"),
            sampled_slots=tensors["sampled_slots"],
            ntk_lengths=tensors["ntk_lengths"].tolist(),
            context=PagedContext(
                slots=tensors["slots"],
                query_counts=tensors["query_counts"].tolist(),
                context_counts=tensors["context_counts"].tolist(),
                page_tables=tensors["page_tables"],
            ),
        )
