"""Every kernel equals dense causal attention, however pages lie and wherever a chunk is cut."""

import sys
from contextlib import nullcontext
from itertools import accumulate, pairwise
from types import ModuleType

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from llm_service.model.attention.flash import PAGE_MULTIPLE, FlashAttention, FlashUnsupported
from llm_service.model.attention.interface import AttentionKernel
from llm_service.model.attention.sdpa import SdpaAttention, similar
from llm_service.model.cache import PagedCache
from llm_service.model.step import StepInput

PAGE_SIZE, HEADS, KV_HEADS, WIDTH = 4, 6, 2, 8


def documented_varlen_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, cu_seqlens_q: torch.Tensor, cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int, max_seqlen_k: int, softmax_scale: float, causal: bool, block_table: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """The computation that flash-attn documents, written out: pages through a table, queries aligned with the end.

    It checks what the package's mha_varlen_fwd (2.8.3) checks of its arguments, but for the dtype and the page size.
    """
    assert causal
    assert {t.dtype for t in (cu_seqlens_q, cu_seqlens_k, block_table)} == {torch.int32}
    assert {t.stride(-1) for t in (q, k, v, block_table)} == {1}
    assert cu_seqlens_q.is_contiguous()
    assert cu_seqlens_k.is_contiguous()
    assert q.shape == (cu_seqlens_q[-1], q.shape[1], k.shape[3])
    assert k.shape == v.shape
    assert q.shape[1] % k.shape[2] == 0
    assert len(block_table) == len(cu_seqlens_q) - 1 == len(cu_seqlens_k) - 1
    outputs = []
    borders = zip(pairwise(cu_seqlens_q.tolist()), pairwise(cu_seqlens_k.tolist()), block_table, strict=True)
    for (start, end), (first_key, last_key), table in borders:
        count = last_key - first_key
        assert end - start <= max_seqlen_q
        assert count <= max_seqlen_k
        pages = table[: -(-count // k.shape[1])].long()
        keys, values = (
            stored[pages].flatten(0, 1)[:count].repeat_interleave(q.shape[1] // k.shape[2], 1) for stored in (k, v)
        )
        scores = torch.einsum("qhd,khd->hqk", q[start:end], keys) * softmax_scale
        hidden = torch.ones(end - start, count).tril(count - (end - start)) == 0
        outputs.append(torch.einsum("hqk,khd->qhd", scores.masked_fill(hidden, -torch.inf).softmax(-1), values))
    return torch.cat(outputs)


def step_of(query_lens: list[int], seq_lens: list[int], tables: torch.Tensor, page_size: int) -> StepInput:
    """A step with the fields that kernels read."""
    slots, count = [], sum(query_lens)
    for queries, length, table in zip(query_lens, seq_lens, tables.long(), strict=True):
        places = torch.arange(length - queries, length, device=tables.device)
        slots.append(table[places // page_size] * page_size + places % page_size)
    empty = torch.zeros(count, dtype=torch.int64)
    lens = torch.tensor(query_lens), torch.tensor(seq_lens)
    return StepInput(empty, empty.float(), torch.cat(slots), *lens, tables, empty, empty, empty)


KERNELS = [SdpaAttention(), FlashAttention(documented_varlen_attention)]


def dense(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """(T, H, D), plainly."""
    keys, values = (tensor.repeat_interleave(HEADS // KV_HEADS, dim=1) for tensor in (key, value))
    query, keys, values = (tensor.transpose(0, 1)[None] for tensor in (query, keys, values))
    return scaled_dot_product_attention(query, keys, values, is_causal=True)[0].transpose(0, 1)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
@pytest.mark.parametrize(
    "cuts", [[(9, 14)], [(1, 1), (8, 13)], [(4, 8), (5, 9), (9, 14)], [(n, n) for n in range(1, 10)]]
)
def test_equals_dense_attention(kernel: AttentionKernel, cuts: list[tuple[int, int]]) -> None:
    """Two sequences of 9 and 14 tokens, each step computing both up to the next cut. Unused memory is NaN."""
    torch.manual_seed(0)
    counts = [9, 14]
    tensors = [[torch.randn(count, heads, WIDTH) for heads in (HEADS, KV_HEADS, KV_HEADS)] for count in counts]
    cache = PagedCache(
        layer_count=1, page_count=10, page_size=PAGE_SIZE, head_count=KV_HEADS, head_dim=WIDTH,
        dtype=torch.float32, device=torch.device("cpu"),
    )  # fmt: skip
    for stored in (*cache.keys, *cache.values):
        stored.fill_(torch.nan)
    tables = torch.tensor([[7, 2, 5, 0], [9, 0, 1, 4]], dtype=torch.int32)
    outputs: list[list[torch.Tensor]] = [[], []]
    done = [0, 0]
    for cut in [*cuts, (9, 14)]:
        active = [index for index in range(2) if cut[index] > done[index]]
        if not active:
            continue
        counts = [cut[index] - done[index] for index in active]
        step = step_of(counts, [cut[index] for index in active], tables[active], PAGE_SIZE)
        query, key, value = (torch.cat([tensors[i][kind][done[i] : cut[i]] for i in active]) for kind in range(3))
        cache.write(0, step.slot_mapping, key, value)
        result = kernel.begin(step, PAGE_SIZE)(query, cache.keys[0], cache.values[0], WIDTH**-0.5)
        starts = list(accumulate(counts, initial=0))
        for place, index in enumerate(active):
            outputs[index].append(result[starts[place] : starts[place + 1]])
            done[index] = cut[index]
    for index in range(2):
        torch.testing.assert_close(torch.cat(outputs[index]), dense(*tensors[index]), atol=1e-6, rtol=1e-5)


def test_many_contexts_of_all_lengths_are_grouped_with_little_padding() -> None:
    contexts = [1, 3, 200, 5, 190, 4, 64, 1000]
    groups = similar(dict(enumerate(contexts)), PAGE_SIZE)
    assert sorted(index for group in groups for index in group) == list(range(8))
    padded = sum(len(group) * -(-max(contexts[index] for index in group) // PAGE_SIZE) * PAGE_SIZE for group in groups)
    assert padded < 1.5 * sum(contexts) + 8 * PAGE_SIZE


@pytest.mark.parametrize(
    ("device", "dtype", "page_size", "reason"),
    [
        ("cpu", torch.bfloat16, 256, "CUDA"),
        ("cuda", torch.float32, 256, "bfloat16 or float16"),
        ("cuda", torch.bfloat16, 16, "multiple of 256"),
    ],
)
def test_flash_attn_says_why_it_cannot_run(device: str, dtype: torch.dtype, page_size: int, reason: str) -> None:
    with pytest.raises(FlashUnsupported, match=reason):
        FlashAttention.load(torch.device(device), dtype, page_size)


def test_flash_attn_is_not_taken_on_a_gpu_its_kernel_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("flash_attn")
    package.flash_attn_varlen_func = documented_varlen_attention  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    for capability, runs in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        with nullcontext() if runs else pytest.raises(FlashUnsupported, match=r"wants compute capability \(8, 0\)"):
            FlashAttention.load(torch.device("cuda"), torch.float16, PAGE_MULTIPLE)


def _flash_attention(device: str) -> FlashAttention:
    """The package itself on a GPU, what it documents elsewhere."""
    if device == "cpu":
        return FlashAttention(documented_varlen_attention)
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    try:
        return FlashAttention.load(torch.device(device), torch.bfloat16, PAGE_MULTIPLE)
    except FlashUnsupported as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_flash_attn_equals_sdpa_where_chunks_and_single_tokens_share_a_step(device: str) -> None:
    """Heads and pages as served: a fresh prompt, the end of another, decoding sequences. Unused memory is NaN."""
    kernels: list[AttentionKernel] = [_flash_attention(device), SdpaAttention()]
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    query_counts, context_counts = [300, 17, 1, 1], [300, 600, 257, 512]
    cache = PagedCache(
        layer_count=1, page_count=10, page_size=PAGE_MULTIPLE, head_count=2, head_dim=64,
        dtype=dtype, device=torch.device(device),
    )  # fmt: skip
    tables = torch.tensor([[7, 2, 0], [9, 4, 1], [3, 5, 0], [8, 6, 0]], dtype=torch.int32, device=device)
    for stored in (*cache.keys, *cache.values):
        stored.fill_(torch.nan)
        for table, count in zip(tables.tolist(), context_counts, strict=True):
            for place in range(count):
                page = stored[table[place // PAGE_MULTIPLE]]
                page[place % PAGE_MULTIPLE] = torch.randn(2, 64, device=device)
    query = torch.randn(sum(query_counts), 14, 64, dtype=dtype, device=device)
    step = step_of(query_counts, context_counts, tables, PAGE_MULTIPLE)
    flash, sdpa = (
        kernel.begin(step, PAGE_MULTIPLE)(query, cache.keys[0], cache.values[0], 0.125) for kernel in kernels
    )
    tolerance = 2e-2 if device == "cuda" else 1e-5
    torch.testing.assert_close(flash, sdpa, atol=tolerance, rtol=tolerance)
