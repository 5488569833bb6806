"""The compiled kernels equal PyTorch in float32, rounded once, for every vector width this processor has."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from llm_service.model.kernels import build as build_module
from llm_service.model.kernels.build import Build, NativeUnsupported
from llm_service.model.kernels.native import Native, load_native
from tests.support.kernels import FUSED, PLAIN, name_of, one_thread, pages_of, randn

CPU = torch.device("cpu")
ROUNDING = 2**-8
"""Relative, of one bfloat16."""


@pytest.fixture(scope="module", params=[FUSED[0], *PLAIN, *FUSED[-1:]], ids=name_of)
def native(request: pytest.FixtureRequest) -> Native:
    return load_native(request.param)


@pytest.fixture(autouse=True)
def in_one_thread() -> Iterator[None]:
    """Unless a test says otherwise."""
    with one_thread():
        yield


def assert_rounded(result: torch.Tensor, exact: torch.Tensor) -> None:
    """Within one rounding, and what another order of the sum makes."""
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), exact, atol=1e-5, rtol=2 * ROUNDING)


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
    for threads in (2, 3):
        torch.set_num_threads(threads)
        assert torch.equal(native.linear(packed, x, 130, silu=True), whole)
        assert torch.equal(native.rms_norm(x, norm, 1e-6), normed)


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
    start = 0
    for table, query_count, context in zip(tables, query_counts, contexts, strict=True):
        own = slice(start, start + query_count)
        exact = attended(query[own], keys, values, table, context, scaling)
        torch.testing.assert_close(result[own].float(), exact, atol=1e-4, rtol=2 * ROUNDING)
        for row in range(query_count):
            sizes = torch.tensor([1]), torch.tensor([context - query_count + row + 1])
            alone = native.attend(query[own][[row]], keys, values, table[None], *sizes, scaling)
            assert torch.equal(alone[0], result[own][row])
        start += query_count


def attended(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, table: torch.Tensor, context: int, scaling: float
) -> torch.Tensor:
    """The last tokens' query (T, H, D) over what each sees of one table's `context` tokens, in float32."""
    count, heads, _ = query.shape
    own_keys, own_values = (
        stored[table.long()].flatten(0, 1)[:context].float().repeat_interleave(heads // stored.shape[2], 1)
        for stored in (keys, values)
    )
    scores = torch.einsum("qhd,thd->hqt", query.float(), own_keys) * scaling
    unseen = torch.ones(count, context, dtype=torch.bool).triu(context - count + 1)
    return torch.einsum("hqt,thd->qhd", scores.masked_fill(unseen, -torch.inf).softmax(-1), own_values)


def test_large_scores_do_not_overflow(native: Native) -> None:
    tables, (keys, values) = pages_of([300], 2, 64)
    query = randn(2, 4, 64) * 1e4
    result = native.attend(query, keys, values, tables, torch.tensor([2]), torch.tensor([300]), 1.0)
    assert_rounded(result, attended(query, keys, values, tables[0], 300, 1.0))


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
def test_without_a_compiler_there_are_none(compiler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(NativeUnsupported, match=r"compiler|failed"):
        load_native()


def test_a_library_that_does_not_load_is_said(tmp_path: Path) -> None:
    (tmp_path / "broken.so").write_bytes(b"not a library")
    with pytest.raises(NativeUnsupported, match="cannot be loaded"):
        Native(tmp_path / "broken.so")


class TestStarts:
    """Each test's with a cache folder of its own, and sources compiled in little time."""

    @pytest.fixture(autouse=True)
    def home(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        request: pytest.FixtureRequest,
    ) -> Path:
        caplog.set_level(logging.INFO)
        # Of another key in each test: what a process has loaded it does not load again.
        own = f"-DTEST={request.node.name}"
        monkeypatch.setattr(build_module, "_FLAGS", (*build_module._FLAGS, "-O0", own))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return tmp_path

    def start(self, caplog: pytest.LogCaptureFixture) -> list[str]:
        """What the log says of one start, whose kernels compute."""
        caplog.clear()
        x, weight = randn(3, 8), randn(8)
        expected = F.rms_norm(x.float(), (8,), weight.float(), 1e-6)
        assert_rounded(load_native(Build()).rms_norm(x, weight, 1e-6), expected)
        return [record.message for record in caplog.records]

    def test_the_first_compiles_and_the_next_find(self, home: Path, caplog: pytest.LogCaptureFixture) -> None:
        assert self.start(caplog) == ["compiled kernels"]
        assert self.start(caplog) == self.start(caplog) == ["found compiled kernels"]
        (kept,) = (home / "cache/internvl/kernels").iterdir()
        assert kept.suffix == ".so"

    def test_a_kept_file_that_does_not_load_is_replaced(self, home: Path, caplog: pytest.LogCaptureFixture) -> None:
        folder = home / "cache/internvl/kernels"
        folder.mkdir(mode=0o700, parents=True)
        (folder / f"{Build().key()}.so").write_bytes(b"not a library")
        assert self.start(caplog) == ["a kept library of kernels is useless", "compiled kernels"]
        assert self.start(caplog) == ["found compiled kernels"]

    def test_each_compiles_where_nothing_can_be_kept(self, home: Path, caplog: pytest.LogCaptureFixture) -> None:
        (home / "cache").write_text("in the way")
        assert self.start(caplog) == self.start(caplog) == ["each start compiles kernels", "compiled kernels"]
        assert [path.name for path in home.iterdir()] == ["cache"]

    def test_nothing_is_loaded_from_a_folder_that_others_can_write(
        self, home: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert self.start(caplog) == ["compiled kernels"]
        folder = home / "cache/internvl/kernels"
        folder.chmod(0o770)
        assert self.start(caplog) == ["each start compiles kernels", "compiled kernels"]
        assert "others may write" in caplog.records[0].cause  # type: ignore[attr-defined]
