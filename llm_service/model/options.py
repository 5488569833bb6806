"""How a model is to be run: what every rank of it must know. Plain data, so that it can be handed to a process."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from llm_service.model.hardware import AttentionName, Hardware, KernelsName, WeightsName
from llm_service.model.language import LanguageModel
from llm_service.model.loading import Progress, empty_decoder, load_language_model
from llm_service.model.ranks.ranks import Ranks
from shared.checkpoint.config import ModelConfig
from shared.checkpoint.weights import Checkpoint


@dataclass(frozen=True)
class LoadedModel:
    """One rank's part of a model, and what its cache is to be."""

    model: LanguageModel
    page_count: int
    page_size: int


@dataclass(frozen=True)
class ModelOptions:
    """Names are those of the settings where there is one."""

    folder: Path
    device: str
    """cpu or cuda, where each rank takes the GPU of its number, or one GPU by number."""
    dtype: str
    weights: WeightsName
    attention: AttentionName
    page_size: int
    cache_bytes: int
    """Memory for keys and values of each rank."""
    max_positions: int
    """0: those of the trained window."""
    threads: int
    """CPU threads of each rank; 0: PyTorch's choice, shared between ranks."""
    kernels: KernelsName = "auto"

    def hardware(self, ranks: Ranks) -> Hardware:
        """Chooses what this rank computes with, and its number of threads. In the thread that will compute."""
        device = self.rank_device(ranks.rank)
        threads = self.threads or (max(1, torch.get_num_threads() // ranks.size) if device.type == "cpu" else 0)
        if threads:
            torch.set_num_threads(threads)
        return Hardware.choose(
            device,
            dtype=self.dtype,
            weights=self.weights,
            kernels=self.kernels,
            attention=self.attention,
            page_size=self.page_size,
        )

    def settled(self, hardware: Hardware) -> "ModelOptions":
        """With nothing left to choose: other ranks compute with what the first has chosen."""
        return replace(self, **hardware.choices())

    def check(self, hardware: Hardware, ranks: Ranks) -> None:
        """Raises what `load` would, as far as it can be known without reading weights."""
        checkpoint, config = Checkpoint.from_folder(self.folder), ModelConfig.from_folder(self.folder)
        empty_decoder(checkpoint, config, hardware.dtype, ranks)

    def load(self, hardware: Hardware, ranks: Ranks, progress: Progress) -> LoadedModel:
        """Loads one rank's part. Raises ValueError and its kinds if this cannot be served."""
        checkpoint, config = Checkpoint.from_folder(self.folder), ModelConfig.from_folder(self.folder)
        model = load_language_model(checkpoint, config, hardware, progress=progress, ranks=ranks)
        if self.max_positions > model.config.max_position_embeddings and not model.stretches:
            raise ValueError("max_positions is past the trained window, and the model has no dynamic NTK to go there")
        return LoadedModel(model, self.cache_bytes // model.page_bytes(hardware.page_size), hardware.page_size)

    def rank_device(self, rank: int) -> torch.device:
        """Where a rank computes."""
        return torch.device(f"cuda:{rank}" if self.device == "cuda" else self.device)
