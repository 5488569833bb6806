"""Widths and depths of the InternVL3 family, and the two kinds of config.json that say them.

The figures are those of the released checkpoints; 9B, whose tokenizer is another, is left out.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

from transformers import InternVLConfig, InternVLVisionConfig, Qwen2Config

from bench.checkpoint.qwen import IMAGE_TOKEN_ID, STOP_TOKEN_ID, VOCABULARY_SIZE


@dataclass(frozen=True)
class TowerShape:
    """InternViT."""

    hidden_size: int
    layer_count: int
    head_count: int
    intermediate_size: int
    is_6b: bool
    """RMSNorm, q and k normalized, no bias on q, k and v; otherwise the 300M style."""
    tile_size: int = 448


@dataclass(frozen=True)
class DecoderShape:
    """Qwen2.5."""

    hidden_size: int
    layer_count: int
    head_count: int
    kv_head_count: int
    intermediate_size: int
    max_positions: int = 32768


@dataclass(frozen=True)
class FamilyShape:
    """One size of the family."""

    tower: TowerShape
    decoder: DecoderShape
    max_tile_count: int = 12

    def cut(self, layer_count: int) -> Self:
        """The first `layer_count` layers of each half, in full width."""
        return replace(
            self,
            tower=replace(self.tower, layer_count=min(layer_count, self.tower.layer_count)),
            decoder=replace(self.decoder, layer_count=min(layer_count, self.decoder.layer_count)),
        )


_300M = TowerShape(1024, 24, 16, 4096, is_6b=False)
_6B = TowerShape(3200, 45, 25, 12800, is_6b=True)
FAMILY = {
    "tiny": FamilyShape(
        TowerShape(64, 2, 4, 128, is_6b=False, tile_size=56), DecoderShape(64, 2, 4, 2, 128, 2048), max_tile_count=4
    ),
    "1B": FamilyShape(_300M, DecoderShape(896, 24, 14, 2, 4864)),
    "2B": FamilyShape(_300M, DecoderShape(1536, 28, 12, 2, 8960)),
    "8B": FamilyShape(_300M, DecoderShape(3584, 28, 28, 4, 18944)),
    "14B": FamilyShape(_300M, DecoderShape(5120, 48, 40, 8, 13824)),
    "38B": FamilyShape(_6B, DecoderShape(5120, 64, 40, 8, 27648)),
    "78B": FamilyShape(_6B, DecoderShape(8192, 80, 64, 8, 29568)),
}


def native_config(shape: FamilyShape) -> InternVLConfig:
    """As transformers' own InternVL takes it."""
    tower = shape.tower
    vision = InternVLVisionConfig(
        hidden_size=tower.hidden_size, num_hidden_layers=tower.layer_count, num_attention_heads=tower.head_count,
        intermediate_size=tower.intermediate_size, image_size=[tower.tile_size, tower.tile_size], patch_size=[14, 14],
        attention_bias=not tower.is_6b, use_qk_norm=tower.is_6b,
        norm_type="rms_norm" if tower.is_6b else "layer_norm", layer_norm_eps=1e-6,
    )  # fmt: skip
    return InternVLConfig(
        vision_config=vision,
        text_config=Qwen2Config(**_decoder_config(shape.decoder)),
        image_token_id=IMAGE_TOKEN_ID,
        tie_word_embeddings=False,
        architectures=["InternVLForConditionalGeneration"],
    )


def original_config(shape: FamilyShape, dtype_name: str) -> dict[str, Any]:
    """As OpenGVLab/InternVL3-* carry it."""
    tower = shape.tower
    decoder = {
        **_decoder_config(shape.decoder),
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        # Said by name: without them the original code attends to the last 4,096 tokens only.
        "sliding_window": None,
        "use_sliding_window": False,
        "max_window_layers": 70,
    }
    return {
        "model_type": "internvl_chat",
        "architectures": ["InternVLChatModel"],
        # Code of the hub's repository, which nothing here runs.
        "auto_map": {
            "AutoConfig": "configuration_internvl_chat.InternVLChatConfig",
            "AutoModel": "modeling_internvl_chat.InternVLChatModel",
            "AutoModelForCausalLM": "modeling_internvl_chat.InternVLChatModel",
        },
        "downsample_ratio": 0.5,
        "dynamic_image_size": True,
        "force_image_size": tower.tile_size,
        "min_dynamic_patch": 1,
        "max_dynamic_patch": shape.max_tile_count,
        "pad2square": False,
        "ps_version": "v2",
        "select_layer": -1,
        "system_message": None,
        "template": "internvl2_5",
        "tie_word_embeddings": False,
        "torch_dtype": dtype_name,
        "use_thumbnail": True,
        "llm_config": {**decoder, "torch_dtype": dtype_name},
        "vision_config": {
            "model_type": "intern_vit_6b",
            "architectures": ["InternVisionModel"],
            "hidden_size": tower.hidden_size,
            "num_hidden_layers": tower.layer_count,
            "num_attention_heads": tower.head_count,
            "intermediate_size": tower.intermediate_size,
            "image_size": tower.tile_size,
            "patch_size": 14,
            "num_channels": 3,
            "hidden_act": "gelu",
            "norm_type": "rms_norm" if tower.is_6b else "layer_norm",
            "layer_norm_eps": 1e-6,
            "qkv_bias": not tower.is_6b,
            "qk_normalization": tower.is_6b,
            "torch_dtype": dtype_name,
        },
    }


def _decoder_config(shape: DecoderShape) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY_SIZE,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.layer_count,
        "num_attention_heads": shape.head_count,
        "num_key_value_heads": shape.kv_head_count,
        "max_position_embeddings": shape.max_positions,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "rope_theta": 1e6,
        "rope_scaling": {"type": "dynamic", "rope_type": "dynamic", "factor": 2.0},
        "bos_token_id": 151643,
        "eos_token_id": STOP_TOKEN_ID,
    }
