"""A step as tensors: the chunks of all sequences laid end to end, without padding."""

from collections.abc import Sequence as Ordered

import torch

from llm_service.engine.pytorch.scheduler import Chunk
from llm_service.model.attention.interface import PagedContext
from llm_service.model.step import StepInput
from llm_service.positions import as_float


def step_input(chunks: Ordered[Chunk], page_size: int) -> StepInput:
    """Lays out the chunks of a plan; their pages are allocated. Logits are wanted of each chunk that wants a token."""
    token_ids: list[int] = []
    positions, visual_slots, visual_rows, slots = [], [], [], []
    sampled_slots = []
    for chunk in chunks:
        sequence = chunk.sequence
        first, last = sequence.computed_count, sequence.computed_count + chunk.token_count
        start = len(token_ids)
        token_ids += sequence.token_ids[first:last]
        positions.append(sequence.ticks(first, last))
        slots.append(_slots(sequence.pages, first, last, page_size))
        for index, (first_row, rows) in sequence.rows.items():
            span = sequence.request.visuals[index].span
            begin, end = max(span.start + first_row, first), min(span.end, last)
            if begin < end:
                visual_slots.append(torch.arange(begin, end) - first + start)
                visual_rows.append(rows[begin - span.start - first_row : end - span.start - first_row])
        if chunk.wants_token:
            sampled_slots.append(len(token_ids) - 1)
    return StepInput(
        token_ids=torch.tensor(token_ids),
        positions=as_float(torch.cat(positions)),
        visual_slots=torch.cat(visual_slots) if visual_slots else torch.empty(0, dtype=torch.int64),
        visual_rows=torch.cat(visual_rows) if visual_rows else None,
        sampled_slots=torch.tensor(sampled_slots, dtype=torch.int64),
        ntk_lengths=[chunk.sequence.request.ntk_length for chunk in chunks],
        context=PagedContext(
            slots=torch.cat(slots),
            query_counts=[chunk.token_count for chunk in chunks],
            context_counts=[chunk.sequence.computed_count + chunk.token_count for chunk in chunks],
            page_tables=_page_tables([chunk.sequence.pages for chunk in chunks]),
        ),
    )


def _slots(pages: list[int], first: int, last: int, page_size: int) -> torch.Tensor:
    """Places of tokens [first, last) in the cache, int64."""
    first_page = first // page_size
    held = torch.tensor(pages[first_page : -(-last // page_size)], dtype=torch.int64)
    indices = torch.arange(first, last)
    return held[indices // page_size - first_page] * page_size + indices % page_size


def _page_tables(tables: list[list[int]]) -> torch.Tensor:
    """int32 (S, longest), padded with zeros."""
    longest = max(map(len, tables))
    return torch.tensor([[*table, *[0] * (longest - len(table))] for table in tables], dtype=torch.int32)
