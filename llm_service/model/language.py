"""Embeddings in, logits out: a dense decoder of transformers' registry on the paged cache.

Legend: T tokens of a step, E hidden size, R rows sampled, K vocabulary.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel

from llm_service.model.attention.interface import PagedStep
from llm_service.model.cache import PagedCache
from llm_service.model.hardware import Hardware
from llm_service.model.layer import FUSED_LAYERS, FusedLayer, Layer, TransformersLayer
from llm_service.model.ranks.ranks import Ranks
from llm_service.model.rotary import Rotary
from llm_service.model.step import StepInput

Fill = Callable[[str], None]
"""Puts weights into the decoder's submodule of this name."""


class DecoderUnsupported(ValueError):
    """A decoder that would be computed wrongly here."""


class Embedding:
    """Token ids (T,) -> (T, E). With several ranks each has its rows of the table."""

    def __init__(self, weight: torch.Tensor, vocabulary: int, ranks: Ranks) -> None:
        self._weight, self._ranks = weight, ranks
        self._own = ranks.share(vocabulary)

    def __call__(self, token_ids: torch.Tensor) -> torch.Tensor:
        if self._ranks.size == 1:
            return F.embedding(token_ids, self._weight)
        is_own = (token_ids >= self._own.start) & (token_ids < self._own.stop)
        rows = F.embedding((token_ids - self._own.start) * is_own, self._weight)
        return self._ranks.sum(rows * is_own[:, None])


class LanguageModel:
    """Qwen2, or any decoder whose layers call a registered attention function; one rank's part of it."""

    def __init__(
        self,
        decoder: PreTrainedModel,
        hardware: Hardware,
        *,
        ranks: Ranks | None = None,
        fill: Fill = lambda name: None,
    ) -> None:
        """Takes the decoder over part by part: each is filled and then gives up its weights, which may be rearranged.

        Raises DecoderUnsupported for sliding windows, and for layers that are not in FUSED_LAYERS if they are to be cut
        for several ranks or quantised.
        """
        self.config: PretrainedConfig = decoder.config
        _require_full_attention(self.config)
        self.ranks = ranks or Ranks()
        self._attention = hardware.attention
        self._rotary = Rotary.from_config(self.config)
        fill("model.embed_tokens")
        weight = _weight(decoder, "model.embed_tokens")
        self.dtype, self.device = weight.dtype, weight.device
        self._embed = Embedding(weight, self.config.vocab_size, self.ranks)
        self._layers = _take_layers(decoder, fill, hardware, self.ranks)
        fill("model.norm")
        self._norm = hardware.norm(decoder.get_submodule("model.norm"))
        fill("lm_head")
        self._head = hardware.linear(_weight(decoder, "lm_head"))

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
            head_count=config.num_key_value_heads // self.ranks.size,
            head_dim=head_dim(config),
            dtype=self.dtype,
            device=self.device,
        )

    def page_bytes(self, page_size: int) -> int:
        """Bytes of one page of such a cache."""
        config = self.config
        per_token = 2 * config.num_hidden_layers * config.num_key_value_heads // self.ranks.size * head_dim(config)
        return int(per_token * self.dtype.itemsize * page_size)

    @torch.inference_mode()
    def forward(self, inputs: StepInput, cache: PagedCache) -> torch.Tensor:
        """One step, of every rank: the first sends it to the others. Returns float32 logits (R, K)."""
        self.ranks.send(inputs)
        inputs = inputs.to(self.device)
        hidden = self._embed(inputs.token_ids)
        if inputs.visual_rows is not None:
            hidden[inputs.visual_slots] = inputs.visual_rows.to(hidden.dtype)
        rotation = self._rotary(inputs.positions, inputs.ntk_lengths, inputs.query_lens, hidden.dtype)
        step = PagedStep(cache, inputs.slot_mapping, rotation, self._attention.begin(inputs, cache.page_size))
        for layer in self._layers:
            hidden = layer(hidden, step)
        logits = self._head(self._norm(hidden[inputs.sampled_slots]))
        return self.ranks.join(logits, self.config.vocab_size).float()


def _take_layers(decoder: PreTrainedModel, fill: Fill, hardware: Hardware, ranks: Ranks) -> list[Layer]:
    layers = decoder.get_submodule("model.layers")
    assert isinstance(layers, nn.ModuleList)
    taken: list[Layer] = []
    for index in range(len(layers)):
        fill(f"model.layers.{index}")
        layer, layers[index] = layers[index], nn.Identity()
        if isinstance(layer, FUSED_LAYERS):
            taken.append(FusedLayer(layer, hardware, ranks))
        elif hardware.weights == "stored" and ranks.size == 1:
            taken.append(TransformersLayer(layer))
        else:
            raise DecoderUnsupported(f"{type(layer).__name__} can be neither quantised nor cut for several ranks")
    return taken


def _weight(decoder: PreTrainedModel, name: str) -> torch.Tensor:
    return decoder.get_submodule(name).get_parameter("weight").detach()


def _require_full_attention(config: PretrainedConfig) -> None:
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise DecoderUnsupported(f"layers of the kinds {sorted(kinds)}; only full attention is served")


def head_dim(config: PretrainedConfig) -> int:
    """Width of one attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
