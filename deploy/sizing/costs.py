"""Costs of a tile and of a token, from a model's config.json. FLOP count a multiplication and an addition as two."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from shared.checkpoint.config import ModelConfig

BYTES_PER_VALUE = 2
"""bfloat16: weights, embeddings, keys and values."""


@dataclass(frozen=True)
class Costs:
    """Costs of one model."""

    tile_flops: float
    """One tile through tower and projector."""
    tokens_per_tile: int
    tile_bytes: int
    """One tile's embedding."""
    vision_weight_bytes: int
    token_flops: float
    """One token through the decoder's layers, attention to others left out: that is attention_flops."""
    head_flops: float
    """The next token's logits."""
    attention_flops: float
    """One token's attention to one token."""
    token_kv_bytes: int
    """One token's keys and values."""
    weight_bytes: int
    """Parameters of the decoder, embedding table and head included."""

    @classmethod
    def of_folder(cls, folder: Path) -> Self:
        """Raises ConfigUnsupported."""
        return cls.of(ModelConfig.from_folder(folder))

    @classmethod
    def of(cls, config: ModelConfig) -> Self:
        """From the shapes alone."""
        vision, language = config.vision, config.language
        patches = (vision.image_size // vision.patch_size) ** 2
        tokens = round(patches * config.downsample_ratio**2)
        hidden, layers = int(language["hidden_size"]), int(language["num_hidden_layers"])
        heads, kv_heads = int(language["num_attention_heads"]), int(language["num_key_value_heads"])
        head_width = int(language.get("head_dim") or hidden // heads)
        # Tower: q, k, v and output, two matrices of the MLP; all positions see all.
        width, rows = vision.hidden_size, patches + 1
        tower = vision.layer_count * (4 * width**2 + 2 * width * vision.intermediate_size)
        tower_attention = vision.layer_count * 4 * rows**2 * width
        stem = 3 * vision.patch_size**2 * width
        projector = round(width / config.downsample_ratio**2) * hidden + hidden**2
        # Decoder: q and output, k and v, three matrices of the MLP.
        layer = hidden * head_width * 2 * (heads + kv_heads) + 3 * hidden * int(language["intermediate_size"])
        table = hidden * int(language["vocab_size"])
        return cls(
            tile_flops=2 * rows * tower + tower_attention + 2 * patches * stem + 2 * tokens * projector,
            tokens_per_tile=tokens,
            tile_bytes=tokens * hidden * BYTES_PER_VALUE,
            vision_weight_bytes=(tower + stem + projector) * BYTES_PER_VALUE,
            token_flops=2 * layers * layer,
            head_flops=2 * table,
            attention_flops=4 * layers * heads * head_width,
            token_kv_bytes=2 * layers * kv_heads * head_width * BYTES_PER_VALUE,
            weight_bytes=(layers * layer + 2 * table) * BYTES_PER_VALUE,
        )

    def prefill_flops(self, tokens: int, cached: int = 0) -> float:
        """FLOP of a prompt's tokens after `cached` ones; each sees those before it."""
        new = tokens - cached
        return new * self.token_flops + (tokens**2 - cached**2) / 2 * self.attention_flops
