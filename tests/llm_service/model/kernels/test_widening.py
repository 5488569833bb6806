"""Products that are wide already, or not on a CPU, are not measured."""

import torch

from llm_service.model.kernels.widening import widens

CPU = torch.device("cpu")


def test_float32_and_gpus_are_never_widened() -> None:
    assert not widens(CPU, torch.float32)
    assert not widens(torch.device("cuda:0"), torch.bfloat16)
