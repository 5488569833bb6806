"""Weights in 8 bits are near the exact ones, alone and in a model."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from llm_service.model.options import LoadedModel, ModelOptions
from llm_service.model.quantised import Int8Projection, has_int8_kernel
from llm_service.model.ranks.ranks import Ranks
from tests.support.checkpoints import write_random_checkpoint
from tests.support.language import prompt_logits, prompt_of

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("has_kernel", [True, False])
def test_is_within_the_step_of_eight_bits(dtype: torch.dtype, has_bias: bool, has_kernel: bool) -> None:
    """A step is the row's maximum / 127; for normal weights the error of a sum is then 0.5 to 0.7 % of its size."""
    torch.manual_seed(0)
    weight, x = torch.randn(192, 256).to(dtype), torch.randn(7, 256).to(dtype)
    bias = torch.randn(192).to(dtype) if has_bias else None
    exact = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    result = Int8Projection(weight, bias, has_kernel=has_kernel and has_int8_kernel(CPU, dtype))(x)
    assert result.dtype == dtype
    assert 0.001 < float((result.double() - exact).norm() / exact.norm()) < 0.012


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_rows_are_divided_by_the_scale_that_is_used(dtype: torch.dtype) -> None:
    """A scale that is rounded after the division shifts a whole row by up to half a step of its dtype."""
    torch.manual_seed(1)
    weight = torch.randn(512, 1024).to(dtype)
    projection = Int8Projection(weight, None, has_kernel=False)
    rebuilt = projection._int8.float() * projection._scale.float()[:, None]
    assert float((rebuilt - weight.float()).abs().amax(dim=1).div(projection._scale.float()).max()) <= 1.0
    drift = (rebuilt * weight.float()).sum(dim=1) / weight.float().square().sum(dim=1) - 1
    assert float(drift.abs().mean()) < 3e-4


def test_a_row_of_zeros_stays_zeros() -> None:
    projection = Int8Projection(torch.zeros(16, 32, dtype=torch.bfloat16), None, has_kernel=False)
    assert float(projection(torch.ones(1, 32, dtype=torch.bfloat16)).abs().max()) == 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_model_with_8_bit_layers_gives_nearly_the_same_logits(tmp_path: Path, dtype: str) -> None:
    write_random_checkpoint(tmp_path)
    prompt = prompt_of([30], seed=1)
    exact, bits8 = (prompt_logits(loaded(tmp_path, dtype, is_int8).model, prompt) for is_int8 in (False, True))
    assert 0.001 < float((bits8 - exact).norm() / exact.norm()) < 0.05


def loaded(folder: Path, dtype: str, is_int8: bool) -> LoadedModel:
    options = ModelOptions(
        folder=folder, device="cpu", dtype=dtype, weights="int8" if is_int8 else "stored", attention="sdpa",
        page_size=4, cache_bytes=1 << 20, max_positions=0, threads=0,
    )  # fmt: skip
    return options.load(options.hardware(Ranks()), Ranks(), lambda loaded, total: None)
