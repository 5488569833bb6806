"""A step as tensors: the chunks of all requests laid end to end, without padding.

In a decoding step, one token of each of many requests, the device waits while it is laid out. So numpy computes for all
requests at once, and Python collects from each its own few numbers. Legend: see StepInput.
"""

from collections.abc import Sequence

import numpy as np
import torch

from llm_service.engine.pytorch.scheduler import Chunk
from llm_service.model.step import StepInput
from llm_service.positions import TICKS


def step_input(chunks: Sequence[Chunk], page_size: int) -> StepInput:
    """Lays out the chunks of a plan; their pages are allocated. Logits are wanted of each chunk that wants a token."""
    requests = [chunk.request for chunk in chunks]
    query_lens = np.array([chunk.token_count for chunk in chunks])
    computed = np.array([request.computed_count for request in requests])
    known = np.array([len(request.token_ids) for request in requests])
    ends = query_lens.cumsum()
    starts = ends - query_lens
    # Of each of the T tokens: which sequence it is of, and its index there.
    sequence = np.repeat(np.arange(len(chunks)), query_lens)
    index = np.arange(ends[-1]) + (computed - starts)[sequence]

    token_ids: list[int] = []
    ticks = np.array([request.reply_ticks for request in requests])[sequence] + TICKS * index
    page_counts = [len(request.pages) for request in requests]
    page_tables = np.zeros((len(chunks), max(page_counts)), np.int32)
    visuals: list[tuple[np.ndarray, torch.Tensor]] = []
    for row, (chunk, first) in enumerate(zip(chunks, computed.tolist(), strict=True)):
        request, start, last = chunk.request, len(token_ids), first + chunk.token_count
        token_ids += request.token_ids[first:last]
        page_tables[row, : page_counts[row]] = request.pages
        if first < request.prompt_count:
            prompt = request.prompt_ticks[first:last]
            ticks[start : start + len(prompt)] = prompt
            visuals += _visuals(chunk, start - first)

    slots = page_tables[sequence, index // page_size].astype(np.int64) * page_size + index % page_size
    arrays = {
        "token_ids": np.array(token_ids),
        "positions": (ticks / TICKS).astype(np.float32),  # divided in float64: see `as_float`
        "slot_mapping": slots,
        "query_lens": query_lens,
        "seq_lens": computed + query_lens,
        "page_tables": page_tables,
        "ntk_lengths": np.array([request.spec.ntk_length for request in requests]),
        "sampled_slots": (ends - 1)[computed + query_lens == known],  # of chunks that want a token
        "visual_slots": np.concatenate([np.empty(0, np.int64), *(slots for slots, _ in visuals)]),
    }
    rows = torch.cat([rows for _, rows in visuals]) if visuals else None
    return StepInput(**{name: torch.from_numpy(each) for name, each in arrays.items()}, visual_rows=rows)


def _visuals(chunk: Chunk, offset: int) -> list[tuple[np.ndarray, torch.Tensor]]:
    """Slots, int64 (V,), and rows (V, E) of each visual in a chunk whose token i has the slot i + offset."""
    request, found = chunk.request, []
    first, last = request.computed_count, request.computed_count + chunk.token_count
    for index, (first_row, rows) in request.rows.items():
        span = request.spec.visuals[index].span
        loaded = span.start + first_row
        begin, end = max(loaded, first), min(span.end, last)
        if begin < end:
            found.append((np.arange(begin, end) + offset, rows[begin - loaded : end - loaded]))
    return found
