"""Paged attention equals dense causal attention, however pages lie and wherever a chunk is cut."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from llm_service.model.attention import PagedCache, PagedContext, PagedStep, paged_attention

PAGE_SIZE, HEADS, KV_HEADS, WIDTH = 4, 6, 2, 8


class Layer(torch.nn.Module):
    """What attention asks of a layer."""

    layer_idx = 0


def dense(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """(1, H, T, D) -> (1, T, H, D), plainly."""
    keys, values = (tensor.repeat_interleave(HEADS // KV_HEADS, dim=1) for tensor in (key, value))
    return scaled_dot_product_attention(query, keys, values, is_causal=True).transpose(1, 2)


@pytest.mark.parametrize(
    "cuts", [[(9, 14)], [(1, 1), (8, 13)], [(4, 8), (5, 9), (9, 14)], [(n, n) for n in range(1, 10)]]
)
def test_equals_dense_attention(cuts: list[tuple[int, int]]) -> None:
    """Two sequences of 9 and 14 tokens, each step computing both up to the next cut."""
    torch.manual_seed(0)
    counts = [9, 14]
    cuts = [*cuts, (9, 14)]
    tensors = [[torch.randn(1, heads, count, WIDTH) for heads in (HEADS, KV_HEADS, KV_HEADS)] for count in counts]
    cache = PagedCache(
        layer_count=1, page_count=10, page_size=PAGE_SIZE, head_count=KV_HEADS, head_dim=WIDTH,
        dtype=torch.float32, device=torch.device("cpu"),
    )  # fmt: skip
    tables = [torch.tensor([7, 2, 5]), torch.tensor([9, 0, 1, 4])]
    outputs: list[list[torch.Tensor]] = [[], []]
    done = [0, 0]
    for cut in cuts:
        active = [index for index in range(2) if cut[index] > done[index]]
        if not active:
            continue
        starts, slots = [0], []
        for index in active:
            places = torch.arange(done[index], cut[index])
            slots.append(tables[index][places // PAGE_SIZE] * PAGE_SIZE + places % PAGE_SIZE)
            starts.append(starts[-1] + len(places))
        context = PagedContext(torch.cat(slots), starts, [cut[i] for i in active], [tables[i] for i in active])
        query, key, value = [
            torch.cat([tensors[i][kind][:, :, done[i] : cut[i]] for i in active], dim=2) for kind in range(3)
        ]
        result, _ = paged_attention(
            Layer(), query, key, value, None, scaling=WIDTH**-0.5, paged=PagedStep(cache, context)
        )
        for place, index in enumerate(active):
            outputs[index].append(result[:, starts[place] : starts[place + 1]])
            done[index] = cut[index]
    for index in range(2):
        query, key, value = tensors[index]
        torch.testing.assert_close(torch.cat(outputs[index], dim=1), dense(query, key, value), atol=1e-6, rtol=1e-5)
