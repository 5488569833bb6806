"""The demo model's shape, and its random start.

An InternVL3 like the released ones, only small: 112-pixel tiles of 8x8 patches become 16 visual tokens each. The
start departs from transformers' in two ways, both measured: layer scale starts at 1 and position embeddings at
random, since with 0.1 and zeros so small a tower stays on a plateau.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig, Qwen2Config

from vision_service.tiles import TilingOptions

TILE_SIZE = 112
PATCH_SIZE = 14
PATCHES = TILE_SIZE // PATCH_SIZE
"""Patches along a tile's side."""
TOKENS_PER_TILE = (PATCHES // 2) ** 2
TILING = TilingOptions(max_tile_count=4, tile_size=TILE_SIZE)
SINGLE_TILE = TilingOptions(max_tile_count=1, tile_size=TILE_SIZE)
"""For the frames of a video."""
SYSTEM_MESSAGE = "You are a small demonstration model."
TRAINED_WINDOW = 2048


@dataclass(frozen=True)
class Size:
    """Widths and depths of tower and language model."""

    vision_width: int = 128
    vision_layers: int = 5
    vision_heads: int = 4
    text_width: int = 192
    text_layers: int = 5
    text_heads: int = 6
    key_value_heads: int = 2
    text_mlp: int = 512

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Size":
        """The size of a checkpoint, from its `config.json`."""
        vision, text = config["vision_config"], config["llm_config"]
        return cls(
            vision["hidden_size"],
            vision["num_hidden_layers"],
            vision["num_attention_heads"],
            text["hidden_size"],
            text["num_hidden_layers"],
            text["num_attention_heads"],
            text["num_key_value_heads"],
            text["intermediate_size"],
        )


SIZE = Size()
"""Of the model that is trained now; `checkpoint/` may still have another."""


def vision_config(size: Size) -> InternVLVisionConfig:
    return InternVLVisionConfig(
        hidden_size=size.vision_width,
        num_hidden_layers=size.vision_layers,
        num_attention_heads=size.vision_heads,
        intermediate_size=4 * size.vision_width,
        image_size=[TILE_SIZE, TILE_SIZE],
        patch_size=[PATCH_SIZE, PATCH_SIZE],
        attention_bias=True,
        use_qk_norm=False,
        norm_type="layer_norm",
        layer_norm_eps=1e-6,
        layer_scale_init_value=1.0,
    )


def text_config(vocab_size: int, size: Size) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=size.text_width,
        intermediate_size=size.text_mlp,
        num_hidden_layers=size.text_layers,
        num_attention_heads=size.text_heads,
        num_key_value_heads=size.key_value_heads,
        max_position_embeddings=TRAINED_WINDOW,
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
        initializer_range=0.04,
        rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e6},
    )


def build(vocab_size: int, image_token_id: int, size: Size = SIZE) -> InternVLForConditionalGeneration:
    """The model with random weights, float32, from torch's current seed."""
    config = InternVLConfig(
        vision_config=vision_config(size),
        text_config=text_config(vocab_size, size),
        image_token_id=image_token_id,
        image_seq_length=TOKENS_PER_TILE,
        tie_word_embeddings=False,
    )
    model = InternVLForConditionalGeneration(config)
    embeddings = model.model.vision_tower.embeddings
    with torch.no_grad():
        embeddings.position_embeddings.normal_(0, 0.1)
        embeddings.cls_token.normal_(0, 0.1)
    return model
