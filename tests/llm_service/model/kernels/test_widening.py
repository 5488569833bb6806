"""Whether products are widened is one answer in a process, and never one for what is wide already or not on a CPU."""

import torch

from llm_service.model.kernels.widening import widens

CPU = torch.device("cpu")


def test_float32_and_gpus_are_never_widened() -> None:
    assert not widens(CPU, torch.float32)
    assert not widens(torch.device("cuda:0"), torch.bfloat16)


def test_the_answer_stays() -> None:
    assert widens(CPU, torch.bfloat16) == widens(CPU, torch.bfloat16)
