"""How a model is to be run: what every rank of it must know. Plain data, so that it can be handed to a process."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from llm_service.model.attention.choose import KernelName, choose_kernel
from llm_service.model.kernels.native import native_for
from llm_service.model.kernels.widening import widens
from llm_service.model.language import LanguageModel
from llm_service.model.loading import Progress, empty_decoder, load_language_model
from llm_service.model.quantised import Int8Projection
from llm_service.model.ranks.ranks import Ranks
from shared.checkpoint.config import ModelConfig
from shared.checkpoint.weights import Checkpoint

log = logging.getLogger(__name__)
WeightsName = Literal["stored", "int8"]


@dataclass(frozen=True)
class LoadedModel:
    """One rank's part of a model, and what its cache is to be."""

    model: LanguageModel
    page_count: int
    page_size: int


@dataclass(frozen=True)
class ModelOptions:
    """Names are those of the settings."""

    folder: Path
    device: str
    """cpu or cuda, where each rank takes the GPU of its number, or one GPU by number."""
    dtype: str
    """Of PyTorch, or auto: bfloat16, but float32 on a CPU that is slow in it and for which there are no kernels. 8-bit
    weights have fast kernels for bfloat16 alone."""
    weights: WeightsName
    attention: KernelName
    page_size: int
    cache_bytes: int
    """Of each rank."""
    max_positions: int
    """0: those of the trained window."""
    threads: int
    """Of each rank; 0: PyTorch's choice, shared between ranks."""

    def resolved(self) -> "ModelOptions":
        """With a dtype that is not auto. In the thread that will compute, before there are other ranks."""
        if self.dtype != "auto":
            return self
        device = self.rank_device(0)
        is_slow = (
            self.weights == "stored" and widens(device, torch.bfloat16) and native_for(device, torch.bfloat16) is None
        )
        dtype = "float32" if is_slow else "bfloat16"
        log.info("chose a dtype", extra={"dtype": dtype})
        return replace(self, dtype=dtype)

    def check(self, ranks: Ranks) -> None:
        """Raises what `load` would, as far as it can be known without reading weights."""
        checkpoint, config = Checkpoint.from_folder(self.folder), ModelConfig.from_folder(self.folder)
        empty_decoder(checkpoint, config, getattr(torch, self.dtype), ranks)

    def load(self, ranks: Ranks, progress: Progress) -> LoadedModel:
        """Loads one rank's part. Raises ValueError and its kinds if this cannot be served."""
        device = self.rank_device(ranks.rank)
        threads = self.threads or (max(1, torch.get_num_threads() // ranks.size) if device.type == "cpu" else 0)
        if threads:
            torch.set_num_threads(threads)
        dtype: torch.dtype = getattr(torch, self.dtype)
        kernel, page_size = choose_kernel(self.attention, device=device, dtype=dtype, page_size=self.page_size)
        model = load_language_model(
            Checkpoint.from_folder(self.folder),
            ModelConfig.from_folder(self.folder),
            device=device,
            dtype=dtype,
            progress=progress,
            kernel=kernel,
            project_layer=Int8Projection if self.weights == "int8" else None,
            ranks=ranks,
        )
        if self.max_positions > model.config.max_position_embeddings and not model.stretches:
            raise ValueError("max_positions is past the trained window, and the model has no dynamic NTK to go there")
        return LoadedModel(model, self.cache_bytes // model.page_bytes(page_size), page_size)

    def rank_device(self, rank: int) -> torch.device:
        """Where a rank computes."""
        return torch.device(f"cuda:{rank}" if self.device == "cuda" else self.device)
