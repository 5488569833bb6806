"""The demo model's shape, and its random start.

An InternVL3 like the released ones, only small: 112-pixel tiles of 8x8 patches become 16 visual tokens each. The
start departs from transformers' in two ways, both measured: layer scale starts at 1 and position embeddings at
random, since with 0.1 and zeros so small a tower stays on a plateau.
"""

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
"""For the frames of a clip."""
SYSTEM_MESSAGE = "You are a small demonstration model."
TRAINED_WINDOW = 2048

VISION_WIDTH = 128
TEXT_WIDTH = 128


def vision_config() -> InternVLVisionConfig:
    return InternVLVisionConfig(
        hidden_size=VISION_WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=4 * VISION_WIDTH,
        image_size=[TILE_SIZE, TILE_SIZE],
        patch_size=[PATCH_SIZE, PATCH_SIZE],
        attention_bias=True,
        use_qk_norm=False,
        norm_type="layer_norm",
        layer_norm_eps=1e-6,
        layer_scale_init_value=1.0,
    )


def text_config(vocab_size: int) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=TEXT_WIDTH,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=TRAINED_WINDOW,
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
        initializer_range=0.04,
        rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e6},
    )


def build(vocab_size: int, image_token_id: int) -> InternVLForConditionalGeneration:
    """The model with random weights, float32, from torch's current seed."""
    config = InternVLConfig(
        vision_config=vision_config(),
        text_config=text_config(vocab_size),
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
