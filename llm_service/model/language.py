"""Embeddings in, logits out: a dense decoder of transformers' registry on the paged cache.

Legend: T tokens of a step, V visual ones among them, E hidden size, S rows sampled, K vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from llm_service.model.attention import AttentionKernel, PagedContext, PagedStep
from llm_service.model.cache import PagedCache
from llm_service.model.layer import FUSED_LAYERS, FusedLayer, Layer, Norm, TransformersLayer
from llm_service.model.projection import project
from llm_service.model.rotary import Rotary
from llm_service.model.sdpa import SdpaAttention


class DecoderUnsupported(ValueError):
    """A decoder that would be computed wrongly here."""


@dataclass(frozen=True)
class StepInput:
    """One step's tokens, those of all its sequences laid end to end."""

    token_ids: torch.Tensor
    """int64 (T,); what visual slots hold is overwritten by visual_rows."""
    positions: torch.Tensor
    """float32 (T,)."""
    visual_slots: torch.Tensor
    """int64 (V,): which of the T tokens are visual."""
    visual_rows: torch.Tensor | None
    """(V, E); None if V is 0."""
    sampled_slots: torch.Tensor
    """int64 (S,): the tokens whose logits are wanted."""
    ntk_lengths: list[int]
    """Of each sequence; see Rotary."""
    context: PagedContext


class LanguageModel:
    """Qwen2, or any decoder whose layers call a registered attention function."""

    def __init__(self, decoder: PreTrainedModel, kernel: AttentionKernel[Any] | None = None) -> None:
        """Takes the decoder over: its layers give up their weights as they are rearranged.

        Raises DecoderUnsupported for sliding windows.
        """
        self.config: PretrainedConfig = decoder.config
        _require_full_attention(self.config)
        weight = next(decoder.parameters())
        self.dtype, self.device = weight.dtype, weight.device
        self.kernel: AttentionKernel[Any] = kernel or SdpaAttention()
        self._rotary = Rotary.from_config(self.config)
        self._embed: nn.Module = decoder.get_input_embeddings()
        self._layers = _take_layers(decoder.base_model.get_submodule("layers"))
        self._norm = Norm(decoder.base_model.get_submodule("norm"))
        self._head = project(decoder.get_submodule("lm_head").get_parameter("weight").detach())

    @property
    def hidden_size(self) -> int:
        return int(self.config.hidden_size)

    @property
    def stretches(self) -> bool:
        """Whether dynamic NTK takes it past its trained window."""
        return self._rotary.ntk_factor > 1

    def new_cache(self, page_count: int, page_size: int) -> PagedCache:
        """An empty cache of `page_count` pages for this model."""
        config = self.config
        return PagedCache(
            layer_count=config.num_hidden_layers,
            page_count=page_count,
            page_size=page_size,
            head_count=config.num_key_value_heads,
            head_dim=head_dim(config),
            dtype=self.dtype,
            device=self.device,
        )

    @torch.inference_mode()
    def forward(self, inputs: StepInput, cache: PagedCache) -> torch.Tensor:
        """One step; returns float32 logits (S, K)."""
        hidden = self._embed(inputs.token_ids)
        if inputs.visual_rows is not None:
            hidden[inputs.visual_slots] = inputs.visual_rows.to(hidden.dtype)
        context = inputs.context
        rotation = self._rotary(inputs.positions, inputs.ntk_lengths, context.query_counts, hidden.dtype)
        layout = self.kernel.lay_out(context, cache.page_size)
        step = PagedStep(cache, context, rotation, self.kernel, layout)
        for layer in self._layers:
            hidden = layer(hidden, step)
        logits = self._head(self._norm(hidden[inputs.sampled_slots]))
        return logits.float()


def _take_layers(layers: nn.Module) -> list[Layer]:
    assert isinstance(layers, nn.ModuleList)
    taken: list[Layer] = []
    for index in range(len(layers)):
        layer, layers[index] = layers[index], nn.Identity()
        taken.append(FusedLayer(layer) if isinstance(layer, FUSED_LAYERS) else TransformersLayer(layer))
    return taken


def _require_full_attention(config: PretrainedConfig) -> None:
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise DecoderUnsupported(f"layers of the kinds {sorted(kinds)}; only full attention is served")


def head_dim(config: PretrainedConfig) -> int:
    """Width of one attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def page_bytes(config: PretrainedConfig, page_size: int, dtype: torch.dtype) -> int:
    """Bytes of one page over all layers."""
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * head_dim(config) * dtype.itemsize
    return int(per_token * page_size)
