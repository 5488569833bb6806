"""InternViT, pixel unshuffle and projector as one module, of transformers' parts.

Legend: N tiles, S their side in pixels, P patches a side, C the tower's width, R rows (visual tokens) of a tile, D the
decoder's width.
"""

import torch
from torch import nn
from transformers import InternVLConfig, InternVLVisionConfig, Qwen2Config
from transformers.models.internvl.modeling_internvl import InternVLMultiModalProjector, InternVLVisionModel

from shared.checkpoint.config import ModelConfig


class VisualEncoder(nn.Module):
    """(N, 3, S, S) normalized pixels -> (N, R, D) visual tokens."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        vision = _transformers_config(config)
        # The projector asks its configuration for two widths only.
        widths = InternVLConfig(
            vision_config=vision,
            text_config=Qwen2Config(hidden_size=config.hidden_size),
            downsample_ratio=config.downsample_ratio,
        )
        self.vision_tower = InternVLVisionModel(vision)
        self.multi_modal_projector = InternVLMultiModalProjector(widths)
        self._merge = round(1 / config.downsample_ratio)

    @torch.inference_mode()
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        patches = self.vision_tower(pixels).last_hidden_state[:, 1:]  # without the class token
        projected: torch.Tensor = self.multi_modal_projector(unshuffle(patches, self._merge))
        return projected


def unshuffle(patches: torch.Tensor, merge: int) -> torch.Tensor:
    """Joins squares of `merge` x `merge` patches, row by row within each: (N, P*P, C) -> (N, R, C * merge**2)."""
    count, _, width = patches.shape
    side = int(patches.shape[1] ** 0.5)
    squares = patches.view(count, side // merge, merge, side // merge, merge, width)
    return squares.transpose(2, 3).reshape(count, (side // merge) ** 2, width * merge**2)


def _transformers_config(config: ModelConfig) -> InternVLVisionConfig:
    vision = config.vision
    transformers_config = InternVLVisionConfig(
        hidden_size=vision.hidden_size,
        num_hidden_layers=vision.layer_count,
        num_attention_heads=vision.head_count,
        intermediate_size=vision.intermediate_size,
        image_size=[vision.image_size, vision.image_size],
        patch_size=[vision.patch_size, vision.patch_size],
        norm_type=vision.norm,
        layer_norm_eps=vision.norm_eps,
        attention_bias=vision.qkv_bias,
        use_qk_norm=vision.qk_norm,
    )
    transformers_config._attn_implementation = "sdpa"
    return transformers_config
