"""Every kind of projection gives what F.linear gives, also where it does more in the same pass."""

import pytest
import torch
from torch.nn import functional as F

from llm_service.model.projection import (
    DenseProjection,
    PackedProjection,
    Project,
    WidenedProjection,
    can_pack,
    project,
)

CPU = torch.device("cpu")


def widened(weight: torch.Tensor, bias: torch.Tensor | None) -> WidenedProjection:
    """In float32, where both its ways are exact; many rows are 4 here."""
    return WidenedProjection(weight, bias, many_rows=4)


@pytest.mark.parametrize("kind", [PackedProjection, widened])
@pytest.mark.parametrize("rows", [1, 3, 4, 40])
@pytest.mark.parametrize("with_bias", [True, False])
def test_every_kind_equals_dense(kind: Project, rows: int, with_bias: bool) -> None:
    torch.manual_seed(rows)
    weight, bias = torch.randn(48, 64), torch.randn(48) if with_bias else None
    x, other = torch.randn(rows, 64), torch.randn(rows, 48)
    projection, dense = kind(weight, bias), DenseProjection(weight, bias)
    torch.testing.assert_close(projection(x), dense(x), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(projection.silu(x), F.silu(dense(x)), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(projection.times(x, other), dense(x) * other, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(projection.plus(x, other), dense(x) + other, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("kind", [PackedProjection, widened])
@pytest.mark.parametrize("rows", [2, 4])
def test_what_is_added_or_multiplied_is_left_as_it_was(kind: Project, rows: int) -> None:
    projection, x, other = kind(torch.randn(8, 8), None), torch.randn(rows, 8), torch.randn(rows, 8)
    before = other.clone()
    projection.plus(x, other)
    projection.times(x, other)
    assert torch.equal(other, before)


@pytest.mark.skipif(not can_pack(CPU, torch.bfloat16), reason="this CPU has no packed kernel for bfloat16")
def test_a_widened_product_is_rounded_once() -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(48, 64).bfloat16(), torch.randn(48).bfloat16()
    x, other = torch.randn(40, 64).bfloat16(), torch.randn(40, 48).bfloat16()
    projection = WidenedProjection(weight, bias, many_rows=1)
    exact = F.linear(x.float(), weight.float(), bias.float())
    for result, wanted in [
        (projection(x), exact),
        (projection.silu(x), F.silu(exact)),
        (projection.times(x, other), exact * other),
        (projection.plus(x, other), exact + other),
    ]:
        assert result.dtype == torch.bfloat16
        torch.testing.assert_close(result, wanted.bfloat16(), atol=1e-5, rtol=2**-7)  # a last place: sums in any order


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_dtype_this_cpu_cannot_pack_still_computes(dtype: torch.dtype) -> None:
    weight, x = torch.randn(16, 16).to(dtype), torch.randn(3, 16).to(dtype)
    projection = project(weight)
    assert isinstance(projection, PackedProjection | WidenedProjection) == can_pack(CPU, dtype)
    torch.testing.assert_close(projection(x), F.linear(x, weight), atol=0.06, rtol=0.02)


def test_float32_is_packed_everywhere() -> None:
    assert can_pack(CPU, torch.float32)
