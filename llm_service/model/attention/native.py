"""Paged attention of a CPU in bfloat16, by `native.cpp`: a row is the same to the bit in whatever step it comes."""

import torch

from llm_service.model.attention.interface import Attend, AttentionKernel
from llm_service.model.kernels.native import Native
from llm_service.model.step import StepInput


class NativeAttention(AttentionKernel):
    """Reads pages where they lie, and no key that a query does not see; threads share long contexts."""

    name = "native"

    def __init__(self, native: Native) -> None:
        self._native = native

    def begin(self, step: StepInput, page_size: int) -> Attend:
        page_tables = step.page_tables.contiguous()

        def attend(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float) -> torch.Tensor:
            return self._native.attend(query, keys, values, page_tables, step.query_lens, step.seq_lens, scaling)

        return attend
