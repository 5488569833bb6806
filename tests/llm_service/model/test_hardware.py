"""Kernels and dtype are chosen once, said in one line, and the same for every rank."""

import logging

import pytest
import torch
from torch.nn import functional as F

from llm_service.model import hardware as module
from llm_service.model.attention.native import NativeAttention
from llm_service.model.attention.sdpa import SdpaAttention
from llm_service.model.hardware import SMALL_PAGE_SIZE, Hardware, WeightsName
from llm_service.model.kernels.build import NativeUnsupported
from llm_service.model.kernels.native import Native, load_native
from llm_service.model.projection import DenseProjection, NativeProjection, PackedProjection, can_pack

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def native() -> Native:
    return load_native()


def machine(
    monkeypatch: pytest.MonkeyPatch, native: Native | None, *, is_slow_in_bfloat16: bool
) -> list[tuple[torch.device, torch.dtype]]:
    """A processor that is slow or fast in bfloat16, with kernels or without a compiler; returns what was measured."""
    measured = []

    def widens(device: torch.device, dtype: torch.dtype) -> bool:
        measured.append((device, dtype))
        return is_slow_in_bfloat16

    def load() -> Native:
        if native is None:
            raise NativeUnsupported("no compiler")
        return native

    monkeypatch.setattr(module, "widens", widens)
    monkeypatch.setattr(module, "load_native", load)
    return measured


@pytest.mark.parametrize(
    ("is_slow", "has_kernels", "weights", "dtype", "attention"),
    [
        (True, True, "stored", torch.bfloat16, NativeAttention),
        (True, False, "stored", torch.float32, SdpaAttention),
        (True, False, "int8", torch.bfloat16, SdpaAttention),  # its kernels know no other dtype
        (False, True, "stored", torch.bfloat16, SdpaAttention),
    ],
)
def test_auto_is_what_is_fast(
    is_slow: bool,
    has_kernels: bool,
    weights: WeightsName,
    dtype: torch.dtype,
    attention: type,
    native: Native,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured = machine(monkeypatch, native if has_kernels else None, is_slow_in_bfloat16=is_slow)
    hardware = Hardware.choose(CPU, weights=weights)
    assert (hardware.dtype, type(hardware.attention)) == (dtype, attention)
    assert hardware.page_size == SMALL_PAGE_SIZE
    assert measured == [(CPU, torch.bfloat16)], "once"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_dtype_without_native_kernels_is_not_measured(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = machine(monkeypatch, None, is_slow_in_bfloat16=True)
    hardware = Hardware.choose(CPU, dtype=dtype)
    assert (hardware.dtype, hardware.native, measured) == (getattr(torch, dtype), None, [])


def test_another_rank_chooses_the_same_without_measuring(native: Native, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its own measurement would have said otherwise."""
    for is_slow in (True, False):
        machine(monkeypatch, native, is_slow_in_bfloat16=is_slow)
        first = Hardware.choose(CPU)
        measured = machine(monkeypatch, native, is_slow_in_bfloat16=not is_slow)
        assert str(Hardware.choose(CPU, **first.choices())) == str(first)
        assert measured == []


def test_what_is_asked_for_by_name_runs_or_says_why_not(native: Native, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NativeUnsupported, match="bfloat16"):
        Hardware.choose(CPU, dtype="float32", attention="native")
    with pytest.raises(NativeUnsupported, match="not in float32"):
        Hardware.choose(CPU, dtype="float32", kernels="native")
    machine(monkeypatch, None, is_slow_in_bfloat16=True)
    with pytest.raises(NativeUnsupported, match="no compiler"):
        Hardware.choose(CPU, kernels="native")
    machine(monkeypatch, native, is_slow_in_bfloat16=True)
    assert isinstance(Hardware.choose(CPU, attention="sdpa").attention, SdpaAttention)


def test_without_a_compiler_the_log_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    machine(monkeypatch, None, is_slow_in_bfloat16=True)
    with caplog.at_level(logging.INFO):
        Hardware.choose(CPU, dtype="bfloat16", page_size=32)
    assert "PyTorch's kernels compute in bfloat16" in caplog.text
    linear = "packed" if can_pack(CPU, torch.bfloat16) else "dense"
    line = f"bfloat16 on cpu: linear maps {linear}, norms pytorch, attention sdpa in pages of 32 tokens"
    assert f"computing in {line}" in caplog.text


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("is_slow", [True, False])
def test_every_linear_map_is_the_product(
    dtype: str, is_slow: bool, native: Native, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, native, is_slow_in_bfloat16=is_slow)
    hardware = Hardware.choose(CPU, dtype=dtype)
    kind = PackedProjection if can_pack(CPU, hardware.dtype) else DenseProjection
    for width, wanted in ((16, NativeProjection if hardware.native else kind), (15, DenseProjection)):
        weight, x = torch.randn(16, width).to(hardware.dtype), torch.randn(3, width).to(hardware.dtype)
        projection = hardware.linear(weight)
        if width == 16 or hardware.native:
            assert isinstance(projection, wanted)
        torch.testing.assert_close(projection(x), F.linear(x, weight), atol=0.06, rtol=0.02)
