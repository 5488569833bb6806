"""A step as tensors: the chunks of all sequences laid end to end, without padding.

Legend: T tokens of the step, S sequences, L tokens of a sequence's context, P pages of a sequence, D hidden size.
"""

from collections.abc import Sequence as Ordered
from dataclasses import dataclass

import torch

from llm_service.engine.scheduler import Chunk
from llm_service.model.attention import PagedContext
from llm_service.positions import as_float


@dataclass(frozen=True)
class Batch:
    """Inputs of one forward pass."""

    token_ids: torch.Tensor
    """int64 (T,); visual slots hold the image token's id, and are overwritten by rows."""
    positions: torch.Tensor
    """float32 (T,)."""
    visual_slots: torch.Tensor
    """int64 (V,): which of the T tokens are visual."""
    visual_rows: torch.Tensor | None
    """(V, D); None if V is 0."""
    context: PagedContext
    sampled_slots: torch.Tensor
    """int64: the token of each sequence whose logits are wanted, in the order of `sampled`."""
    sampled: list[Chunk]


def make_batch(chunks: Ordered[Chunk], page_size: int, device: torch.device) -> Batch:
    """Lays out the chunks of a plan; their pages are allocated."""
    token_ids: list[int] = []
    positions, visual_slots, visual_rows, slots, page_tables = [], [], [], [], []
    query_starts, context_counts, sampled_slots = [0], [], []
    sampled = []
    for chunk in chunks:
        sequence = chunk.sequence
        first, last = sequence.computed_count, sequence.computed_count + chunk.token_count
        start = len(token_ids)
        token_ids += sequence.token_ids[first:last]
        positions.append(sequence.ticks(first, last))
        pages = torch.tensor(sequence.pages, dtype=torch.int64)
        indices = torch.arange(first, last)
        slots.append(pages[indices // page_size] * page_size + indices % page_size)
        page_tables.append(pages)
        for index, (first_row, rows) in sequence.rows.items():
            span = sequence.request.visuals[index].span
            begin, end = max(span.start + first_row, first), min(span.end, last)
            if begin < end:
                visual_slots.append(torch.arange(begin, end) - first + start)
                visual_rows.append(rows[begin - span.start - first_row : end - span.start - first_row])
        query_starts.append(len(token_ids))
        context_counts.append(last)
        if chunk.wants_token:
            sampled.append(chunk)
            sampled_slots.append(len(token_ids) - 1)
    return Batch(
        token_ids=torch.tensor(token_ids).to(device),
        positions=as_float(torch.cat(positions)).to(device),
        visual_slots=(torch.cat(visual_slots) if visual_slots else torch.empty(0, dtype=torch.int64)).to(device),
        visual_rows=torch.cat(visual_rows).to(device) if visual_rows else None,
        context=PagedContext(
            slots=torch.cat(slots).to(device),
            query_starts=query_starts,
            context_counts=context_counts,
            page_tables=[table.to(device) for table in page_tables],
        ),
        sampled_slots=torch.tensor(sampled_slots, dtype=torch.int64).to(device),
        sampled=sampled,
    )
