"""Every kind of projection gives what F.linear gives, also where it does more in the same pass."""

import pytest
import torch
from torch.nn import functional as F

from llm_service.model.kernels.native import Native, load_native
from llm_service.model.projection import (
    DenseProjection,
    NativeProjection,
    PackedProjection,
    can_pack,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def native() -> Native:
    return load_native()


@pytest.mark.parametrize("rows", [1, 3, 4, 40])
@pytest.mark.parametrize("with_bias", [True, False])
def test_packed_equals_dense(rows: int, with_bias: bool) -> None:
    torch.manual_seed(rows)
    weight, bias = torch.randn(48, 64), torch.randn(48) if with_bias else None
    x, other = torch.randn(rows, 64), torch.randn(rows, 48)
    packed, dense = PackedProjection(weight, bias), DenseProjection(weight, bias)
    torch.testing.assert_close(packed(x), dense(x), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(packed.silu(x), F.silu(dense(x)), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(packed.times(x, other), dense(x) * other, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(packed.plus(x, other), dense(x) + other, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("with_bias", [True, False])
def test_native_equals_dense_in_float32(native: Native, rows: int, with_bias: bool) -> None:
    torch.manual_seed(rows)
    weight, bias = torch.randn(48, 64).bfloat16(), torch.randn(48).bfloat16() if with_bias else None
    x, other = torch.randn(rows, 64).bfloat16(), torch.randn(rows, 48).bfloat16()
    projection = NativeProjection(weight, bias, native)
    exact = F.linear(x.float(), weight.float(), None if bias is None else bias.float())
    for result, wanted in [
        (projection(x), exact),
        (projection.silu(x), F.silu(exact)),
        (projection.times(x, other), exact * other),
        (projection.plus(x, other), exact + other),
    ]:
        torch.testing.assert_close(result, wanted.bfloat16(), atol=1e-5, rtol=2**-7)  # a last place: sums in any order


def test_what_is_added_or_multiplied_is_left_as_it_was(native: Native) -> None:
    for projection, dtype in [
        (PackedProjection(torch.randn(8, 8), None), torch.float32),
        (NativeProjection(torch.randn(8, 8).bfloat16(), None, native), torch.bfloat16),
    ]:
        x, other = torch.randn(2, 8).to(dtype), torch.randn(2, 8).to(dtype)
        before = other.clone()
        projection.plus(x, other)
        projection.times(x, other)
        assert torch.equal(other, before)


def test_float32_is_packed_everywhere() -> None:
    assert can_pack(CPU, torch.float32)
