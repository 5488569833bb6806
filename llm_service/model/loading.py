"""A checkpoint's language tensors into the decoder, layer by layer; vision tensors are not touched.

Each layer is read, rearranged and let go of before the next is read, so that loading takes little more memory than the
loaded model. A rank reads its own parts of the tensors only.
"""

from collections.abc import Callable

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from llm_service.model.attention.interface import PAGED_ATTENTION
from llm_service.model.hardware import Hardware
from llm_service.model.language import LanguageModel
from llm_service.model.ranks.ranks import Cut, Ranks
from shared.checkpoint.config import ModelConfig
from shared.checkpoint.language import refuse_quantised
from shared.checkpoint.weights import LANGUAGE_PREFIXES, Checkpoint

Progress = Callable[[int, int], None]
"""Told (bytes loaded, bytes in all)."""
_PREFIX = LANGUAGE_PREFIXES[0]


def load_language_model(
    checkpoint: Checkpoint,
    config: ModelConfig,
    hardware: Hardware,
    *,
    progress: Progress,
    ranks: Ranks | None = None,
) -> LanguageModel:
    """Raises CheckpointInvalid unless the checkpoint has exactly the decoder's tensors, in its shapes.

    Raises RanksUnsupported and DecoderUnsupported as Ranks and LanguageModel do.
    """
    ranks, checkpoint = ranks or Ranks(), checkpoint.with_head(is_tied=config.is_tied)
    decoder = empty_decoder(checkpoint, config, hardware.dtype, ranks)
    cut = Cut(decoder.tp_plan, ranks)
    sizes = {name: checkpoint.byte_count(name) for name in checkpoint.names(_PREFIX)}
    loaded = 0

    def fill(module: str) -> None:
        nonlocal loaded
        for name, tensor in checkpoint.tensors(
            f"{_PREFIX}{module}.", cut=lambda name, shape: cut(name.removeprefix(_PREFIX), shape)
        ):
            path, _, leaf = name.removeprefix(_PREFIX).rpartition(".")
            weight = torch.nn.Parameter(tensor.to(device=hardware.device, dtype=hardware.dtype), requires_grad=False)
            setattr(decoder.get_submodule(path), leaf, weight)
            loaded += sizes[name]
            progress(loaded, sum(sizes.values()))

    decoder.train(False)
    return LanguageModel(decoder, hardware, ranks=ranks, fill=fill)


def empty_decoder(checkpoint: Checkpoint, config: ModelConfig, dtype: torch.dtype, ranks: Ranks) -> PreTrainedModel:
    """The decoder without memory behind its weights. Raises what can be known before weights are read."""
    refuse_quantised(config.language)
    fields = dict(config.language)
    transformers_config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    with torch.device("meta"):
        decoder: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            transformers_config, dtype=dtype, attn_implementation=PAGED_ATTENTION
        )
    ranks.require_divides(decoder.config)
    shapes = {_PREFIX + name: tuple(parameter.shape) for name, parameter in decoder.named_parameters()}
    checkpoint.with_head(is_tied=config.is_tied).require(shapes, _PREFIX)
    return decoder
