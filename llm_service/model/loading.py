"""A checkpoint's language tensors into the decoder, one at a time; vision tensors are not touched."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from llm_service.model.attention import PAGED_ATTENTION, AttentionKernel
from llm_service.model.language import LanguageModel
from shared.checkpoint import LANGUAGE_PREFIXES, Checkpoint
from shared.model_config import ModelConfig

Progress = Callable[[int, int], None]
"""Told (bytes loaded, bytes in all)."""


def load_language_model(
    checkpoint: Checkpoint,
    config: ModelConfig,
    *,
    device: torch.device,
    dtype: torch.dtype,
    progress: Progress,
    kernel: AttentionKernel[Any] | None = None,
) -> LanguageModel:
    """Raises CheckpointInvalid unless the checkpoint has exactly the decoder's tensors, in its shapes."""
    decoder = _empty_decoder(config, dtype)
    prefix = LANGUAGE_PREFIXES[0]
    shapes = {prefix + name: tuple(parameter.shape) for name, parameter in decoder.named_parameters()}
    checkpoint.require(shapes, prefix)
    loaded, total = 0, checkpoint.byte_count(*LANGUAGE_PREFIXES)
    for name, tensor in checkpoint.tensors(*LANGUAGE_PREFIXES):
        path, _, leaf = name.removeprefix(prefix).rpartition(".")
        weight = torch.nn.Parameter(tensor.to(device=device, dtype=dtype), requires_grad=False)
        setattr(decoder.get_submodule(path), leaf, weight)
        loaded += tensor.nbytes
        progress(loaded, total)
    decoder.train(False)
    return LanguageModel(decoder, kernel)


def _empty_decoder(config: ModelConfig, dtype: torch.dtype) -> PreTrainedModel:
    """The decoder without memory behind its weights."""
    fields = dict(config.language)
    transformers_config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    with torch.device("meta"):
        decoder: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            transformers_config, dtype=dtype, attn_implementation=PAGED_ATTENTION
        )
    return decoder
