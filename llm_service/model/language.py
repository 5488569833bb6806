"""Embeddings in, logits out: a dense decoder of transformers' registry on the paged cache.

Legend: T tokens of a step, V visual ones among them, D hidden size, S rows sampled, K vocabulary.
"""

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from llm_service.model.attention import PagedCache, PagedContext, PagedStep


class LanguageModel:
    """Qwen2, or any decoder whose layers call a registered attention function."""

    def __init__(self, decoder: PreTrainedModel) -> None:
        self._decoder = decoder
        self._embed: nn.Module = decoder.get_input_embeddings()
        self._head: nn.Module = decoder.get_submodule("lm_head")
        self.config: PretrainedConfig = decoder.config
        weight = next(decoder.parameters())
        self.dtype, self.device = weight.dtype, weight.device

    @property
    def hidden_size(self) -> int:
        return int(self.config.hidden_size)

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
    def forward(
        self,
        *,
        token_ids: torch.Tensor,
        positions: torch.Tensor,
        visual_slots: torch.Tensor,
        visual_rows: torch.Tensor | None,
        sampled_slots: torch.Tensor,
        cache: PagedCache,
        context: PagedContext,
    ) -> torch.Tensor:
        """One step. token_ids int64 (T,), positions float32 (T,), rows (V, D); returns float32 logits (S, K)."""
        hidden = self._embed(token_ids)
        if visual_rows is not None:
            hidden[visual_slots] = visual_rows.to(hidden.dtype)
        hidden = self._decoder.base_model(
            inputs_embeds=hidden[None],
            position_ids=positions[None],
            use_cache=False,
            paged=PagedStep(cache, context),
        ).last_hidden_state[0]
        logits: torch.Tensor = self._head(hidden[sampled_slots])
        return logits.float()


def head_dim(config: PretrainedConfig) -> int:
    """Width of one attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def page_bytes(config: PretrainedConfig, page_size: int, dtype: torch.dtype) -> int:
    """Bytes of one page over all layers."""
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * head_dim(config) * dtype.itemsize
    return int(per_token * page_size)
