"""The compiled kernels equal PyTorch in float32, rounded once, for every vector width this processor has."""

import logging
import platform
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from llm_service.model import options as options_module
from llm_service.model.attention.choose import SMALL_PAGE_SIZE, choose_kernel
from llm_service.model.attention.native import NativeAttention
from llm_service.model.attention.sdpa import SdpaAttention
from llm_service.model.kernels import native as module
from llm_service.model.kernels.native import Native, NativeUnsupported, compile_native, native_for
from llm_service.model.kernels.widening import widens
from llm_service.model.options import ModelOptions

CPU = torch.device("cpu")
TARGETS = ["native", "x86-64-v3", "x86-64"] if platform.machine() == "x86_64" else ["native"]
ROUNDING = 2**-8
"""Relative, of one bfloat16."""


@pytest.fixture(scope="module", params=TARGETS)
def native(request: pytest.FixtureRequest) -> Native:
    if request.param == "x86-64-v3" and torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip("no AVX2")
    return compile_native(request.param)


def assert_rounded(result: torch.Tensor, exact: torch.Tensor) -> None:
    """Within one rounding, and what another order of the sum makes."""
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), exact, atol=1e-5, rtol=2 * ROUNDING)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape).bfloat16()


@given(rows=st.integers(0, 40), pairs=st.integers(1, 40), outputs=st.integers(1, 100), seed=st.integers(0, 1 << 30))
def test_linear_equals_float32(native: Native, rows: int, pairs: int, outputs: int, seed: int) -> None:
    torch.manual_seed(seed)
    x, weight, bias = randn(rows, 2 * pairs), randn(outputs, 2 * pairs), randn(outputs)
    factor, term = randn(rows, outputs), randn(rows, outputs)
    packed = native.pack(weight)
    exact = x.float() @ weight.float().T
    assert_rounded(native.linear(packed, x, outputs), exact)
    assert_rounded(native.linear(packed, x, outputs, bias=bias), exact + bias)
    assert_rounded(native.linear(packed, x, outputs, silu=True), F.silu(exact))
    assert_rounded(native.linear(packed, x, outputs, factor=factor), exact * factor)
    assert_rounded(native.linear(packed, x, outputs, bias=bias, term=term), exact + bias + term)


def test_silu_holds_at_the_ends_of_the_range(native: Native) -> None:
    x = torch.tensor([[v, 0.0] for v in (-3e38, -1e4, -88.5, -87.0, -20.0, -1e-30, 0.0, 1e-30, 20.0, 88.5, 3e38)])
    weight = torch.tensor([[1.0, 0.0]]).bfloat16()
    result = native.linear(native.pack(weight), x.bfloat16(), 1, silu=True)
    torch.testing.assert_close(result.float(), F.silu(x.bfloat16().float()[:, :1]), atol=1e-30, rtol=2 * ROUNDING)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_row_that_is_not_finite_spoils_itself_alone(native: Native, bad: float) -> None:
    x, weight = randn(14, 64), randn(50, 64)
    expected = native.linear(native.pack(weight), x, 50)
    x[3, 7] = bad
    result = native.linear(native.pack(weight), x, 50)
    assert not result[3].isfinite().any()
    others = [row for row in range(14) if row != 3]
    assert torch.equal(result[others], expected[others])


def test_a_row_is_the_same_to_the_bit_alone_in_any_batch_and_on_any_number_of_threads(native: Native) -> None:
    x, weight, norm = randn(70, 96), randn(130, 96), randn(96)
    packed = native.pack(weight)
    whole, normed = native.linear(packed, x, 130, silu=True), native.rms_norm(x, norm, 1e-6)
    for rows in (slice(0, 1), slice(3, 10), slice(5, 38), slice(69, 70)):
        assert torch.equal(native.linear(packed, x[rows], 130, silu=True), whole[rows])
        assert torch.equal(native.rms_norm(x[rows], norm, 1e-6), normed[rows])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert torch.equal(native.linear(packed, x, 130, silu=True), whole)
    finally:
        torch.set_num_threads(threads)


@given(rows=st.integers(1, 40), width=st.integers(1, 100), seed=st.integers(0, 1 << 30))
def test_norms_equal_float32(native: Native, rows: int, width: int, seed: int) -> None:
    torch.manual_seed(seed)
    x, weight = randn(rows, 3, width), randn(width)
    assert_rounded(native.rms_norm(x, weight, 1e-6), F.rms_norm(x.float(), (width,), weight.float(), 1e-6))


SEQUENCES = st.lists(
    st.integers(1, 400).flatmap(lambda context: st.tuples(st.integers(1, min(context, 40)), st.just(context))),
    min_size=1,
    max_size=4,
)
"""(queries, context) of each: decoding, chunks and whole prompts."""


@given(
    sequences=SEQUENCES,
    groups=st.integers(1, 3),
    shared=st.integers(1, 18),
    head_dim=st.sampled_from([8, 12, 64, 80]),
    seed=st.integers(0, 1 << 30),
)
def test_attention_equals_float32_and_is_the_same_alone(
    native: Native, sequences: list[tuple[int, int]], groups: int, shared: int, head_dim: int, seed: int
) -> None:
    """Pages lie anywhere, what is not context is NaN, and every query alone gives the same bits."""
    torch.manual_seed(seed)
    query_counts, contexts = [list(counts) for counts in zip(*sequences, strict=True)]
    tables, (keys, values) = pages_of(contexts, groups, head_dim)
    query, scaling = randn(sum(query_counts), groups * shared, head_dim) * 3, head_dim**-0.5
    result = native.attend(query, keys, values, tables, torch.tensor(query_counts), torch.tensor(contexts), scaling)
    row = 0
    for table, query_count, context in zip(tables, query_counts, contexts, strict=True):
        for count in range(context - query_count + 1, context + 1):
            exact = attended(query[row], keys, values, table, count, scaling)
            torch.testing.assert_close(result[row].float(), exact, atol=1e-4, rtol=2 * ROUNDING)
            one = torch.tensor([1])
            alone = native.attend(query[[row]], keys, values, table[None], one, torch.tensor([count]), scaling)
            assert torch.equal(alone[0], result[row])
            row += 1


def attended(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, table: torch.Tensor, count: int, scaling: float
) -> torch.Tensor:
    """query (H, D) over the first `count` tokens of one table, in float32."""
    own_keys, own_values = (
        stored[table.long()].flatten(0, 1)[:count].float().repeat_interleave(len(query) // stored.shape[2], 1)
        for stored in (keys, values)
    )
    scores = torch.einsum("hd,thd->ht", query.float(), own_keys) * scaling
    return torch.einsum("ht,thd->hd", scores.softmax(-1), own_values)


def pages_of(contexts: list[int], groups: int, head_dim: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Tables, keys and values of contexts over pages of 16 tokens in no order."""
    counts = [-(-count // 16) for count in contexts]
    order = iter(torch.randperm(sum(counts)).tolist())
    tables = torch.zeros(len(contexts), max(counts), dtype=torch.int32)
    stored = [torch.full((sum(counts), 16, groups, head_dim), torch.nan).bfloat16() for _ in range(2)]
    for index, count in enumerate(contexts):
        for start in range(0, count, 16):
            page = tables[index, start // 16] = next(order)
            for pages in stored:
                pages[int(page), : count - start] = torch.randn_like(pages[0, : count - start])
    return tables, stored


def test_large_scores_do_not_overflow(native: Native) -> None:
    tables, (keys, values) = pages_of([300], 2, 64)
    query = randn(2, 4, 64) * 1e4
    result = native.attend(query, keys, values, tables, torch.tensor([2]), torch.tensor([300]), 1.0)
    for row, count in enumerate((299, 300)):
        assert_rounded(result[row], attended(query[row], keys, values, tables[0], count, 1.0))


def test_a_query_that_is_not_finite_spoils_its_head_alone(native: Native) -> None:
    tables, (keys, values) = pages_of([150], 2, 64)
    query = randn(20, 4, 64)
    counts = torch.tensor([20]), torch.tensor([150])
    expected = native.attend(query, keys, values, tables, *counts, 0.125)
    query[7, 2, 5] = torch.nan
    result = native.attend(query, keys, values, tables, *counts, 0.125)
    assert result[7, 2].isnan().all()
    result[7, 2] = expected[7, 2]
    assert torch.equal(result, expected)


@pytest.mark.parametrize("compiler", ["/no/such/compiler", "false", "sh -c 'exit 3' --"])
def test_without_a_compiler_pytorch_computes_and_the_log_says_so(
    compiler: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(NativeUnsupported, match=r"compiler|failed"):
        compile_native()
    monkeypatch.setattr(module, "widens", lambda device, dtype: True)
    module._load.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert native_for(CPU, torch.bfloat16) is None
        assert "PyTorch's kernels" in caplog.text
    finally:
        module._load.cache_clear()


def test_a_library_that_does_not_load_is_said(tmp_path: Path) -> None:
    (tmp_path / "broken.so").write_bytes(b"not a library")
    with pytest.raises(NativeUnsupported, match="cannot be loaded"):
        Native(tmp_path / "broken.so")


def test_they_are_taken_where_they_are_of_use() -> None:
    assert native_for(CPU, torch.float32) is None
    assert native_for(torch.device("cuda:0"), torch.bfloat16) is None
    assert (native_for(CPU, torch.bfloat16) is not None) == widens(CPU, torch.bfloat16)


@pytest.mark.parametrize(
    ("slow_in_bfloat16", "has_kernels", "dtype"),
    [(True, True, "bfloat16"), (True, False, "float32"), (False, False, "bfloat16")],
)
def test_auto_is_a_dtype_that_is_fast(
    slow_in_bfloat16: bool, has_kernels: bool, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options_module, "widens", lambda device, dtype: slow_in_bfloat16)
    monkeypatch.setattr(options_module, "native_for", lambda device, dtype: object() if has_kernels else None)
    options = ModelOptions(
        folder=Path(), device="cpu", dtype="auto", weights="stored", attention="auto", page_size=0, cache_bytes=1,
        max_positions=0, threads=0,
    )  # fmt: skip
    assert options.resolved().dtype == dtype
    assert replace(options, weights="int8").resolved().dtype == "bfloat16", "its kernels know no other"
    assert replace(options, dtype="float16").resolved().dtype == "float16"


def test_the_kernel_asked_for_by_name_runs_or_says_why_not() -> None:
    with pytest.raises(NativeUnsupported, match="bfloat16"):
        choose_kernel("native", device=CPU, dtype=torch.float32, page_size=0)
    kernel, page_size = choose_kernel("auto", device=CPU, dtype=torch.bfloat16, page_size=0)
    assert isinstance(kernel, NativeAttention) == widens(CPU, torch.bfloat16)
    assert page_size == SMALL_PAGE_SIZE
    kernel, _ = choose_kernel("sdpa", device=CPU, dtype=torch.bfloat16, page_size=0)
    assert isinstance(kernel, SdpaAttention)
