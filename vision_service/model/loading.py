"""A checkpoint's vision tensors into the encoder, one at a time; language tensors are not touched."""

from collections.abc import Callable

import torch

from shared.checkpoint.config import ModelConfig
from shared.checkpoint.weights import VISION_PREFIXES, Checkpoint
from vision_service.model.tower import VisualEncoder

Progress = Callable[[int, int], None]
"""Told (bytes loaded, bytes in all)."""


def load_visual_encoder(
    checkpoint: Checkpoint, config: ModelConfig, *, device: torch.device, dtype: torch.dtype, progress: Progress
) -> VisualEncoder:
    """Raises CheckpointInvalid unless the checkpoint has exactly the encoder's tensors, in its shapes."""
    encoder = empty_encoder(checkpoint, config)
    loaded, total = 0, checkpoint.byte_count(*VISION_PREFIXES)
    for name, tensor in checkpoint.tensors(*VISION_PREFIXES):
        path, _, leaf = name.rpartition(".")
        weight = torch.nn.Parameter(tensor.to(device=device, dtype=dtype), requires_grad=False)
        setattr(encoder.get_submodule(path), leaf, weight)
        loaded += tensor.nbytes
        progress(loaded, total)
    return encoder.eval()


def empty_encoder(checkpoint: Checkpoint, config: ModelConfig) -> VisualEncoder:
    """The encoder without memory behind its weights. Raises CheckpointInvalid as far as that can be known so."""
    with torch.device("meta"):
        encoder = VisualEncoder(config)
    shapes = {name: tuple(parameter.shape) for name, parameter in encoder.named_parameters()}
    checkpoint.require(shapes, *VISION_PREFIXES)
    return encoder
