"""Tiny random InternVL checkpoints on disk, in both layouts and both tower styles, and transformers' model of each."""

import json
import re
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig, Qwen2Config

from tests.support.tokenizer import tokenizer, write_tokenizer

Style = Literal["300m", "6b"]
Layout = Literal["original", "hf"]

TILE_SIZE, PATCH_SIZE, TOKENS_PER_TILE = 56, 14, 4
VOCABULARY = 600
MAX_POSITIONS = 2048
MAX_TILE_COUNT = 4

_ORIGINAL_NAMES: tuple[tuple[str, str], ...] = (
    (r"^model\.vision_tower\.embeddings\.cls_token$", "vision_model.embeddings.class_embedding"),
    (r"^model\.vision_tower\.embeddings\.patch_embeddings\.projection\.", "vision_model.embeddings.patch_embedding."),
    (r"^model\.vision_tower\.embeddings\.position_embeddings$", "vision_model.embeddings.position_embedding"),
    (r"^model\.vision_tower\.encoder\.layer\.", "vision_model.encoder.layers."),
    (r"\.attention\.projection_layer\.", ".attn.proj."),
    (r"\.attention\.", ".attn."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.lambda_1$", ".ls1"),
    (r"\.lambda_2$", ".ls2"),
    (r"^model\.multi_modal_projector\.layer_norm\.", "mlp1.0."),
    (r"^model\.multi_modal_projector\.linear_1\.", "mlp1.1."),
    (r"^model\.multi_modal_projector\.linear_2\.", "mlp1.3."),
    (r"^model\.language_model\.", "language_model.model."),
    (r"^lm_head\.", "language_model.lm_head."),
)


def write_random_checkpoint(
    folder: Path, *, style: Style = "300m", layout: Layout = "original", seed: int = 0, shards: int = 1
) -> InternVLForConditionalGeneration:
    """Writes config, tokenizer and weights; returns the native model in float32 with the same weights."""
    model = _random_model(style, seed)
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    if layout == "original":
        tensors = _original_tensors(tensors)
        config = _original_config(style)
    else:
        tensors = {_saved_name(name): tensor for name, tensor in tensors.items()}
        config = model.config.to_dict()
        (folder / "preprocessor_config.json").write_text(json.dumps({"min_patches": 1, "max_patches": MAX_TILE_COUNT}))
    (folder / "config.json").write_text(json.dumps(config))
    _write_tensors(folder, tensors, shards)
    write_tokenizer(folder)
    return model


def _random_model(style: Style, seed: int) -> InternVLForConditionalGeneration:
    torch.manual_seed(seed)
    is_6b = style == "6b"
    vision = InternVLVisionConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        image_size=[TILE_SIZE, TILE_SIZE], patch_size=[PATCH_SIZE, PATCH_SIZE], attention_bias=not is_6b,
        use_qk_norm=is_6b, norm_type="rms_norm" if is_6b else "layer_norm", layer_norm_eps=1e-6,
    )  # fmt: skip
    image_token = tokenizer().get_vocab()["<IMG_CONTEXT>"]
    config = InternVLConfig(
        vision_config=vision, text_config=Qwen2Config(**_language_config()), image_token_id=image_token,
        tie_word_embeddings=False,
    )  # fmt: skip
    config._attn_implementation = "eager"
    model = InternVLForConditionalGeneration(config)
    model.train(False)
    with torch.no_grad():  # norms, biases, class and position embeddings start trivial
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 or "cls_token" in name or "position_embeddings" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def _language_config() -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": MAX_POSITIONS,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "rope_theta": 1e6,
        "rope_scaling": {"type": "dynamic", "rope_type": "dynamic", "factor": 2.0},
    }


def _original_config(style: Style) -> dict[str, Any]:
    is_6b = style == "6b"
    return {
        "model_type": "internvl_chat",
        "architectures": ["InternVLChatModel"],
        "downsample_ratio": 0.5,
        "dynamic_image_size": True,
        "force_image_size": TILE_SIZE,
        "min_dynamic_patch": 1,
        "max_dynamic_patch": MAX_TILE_COUNT,
        "use_thumbnail": True,
        "select_layer": -1,
        "ps_version": "v2",
        "template": "internvl2_5",
        "system_message": None,
        "llm_config": {**_language_config(), "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]},
        "vision_config": {
            "model_type": "intern_vit_6b",
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "image_size": TILE_SIZE,
            "patch_size": PATCH_SIZE,
            "norm_type": "rms_norm" if is_6b else "layer_norm",
            "layer_norm_eps": 1e-6,
            "qkv_bias": not is_6b,
            "qk_normalization": is_6b,
        },
    }


def _original_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed: dict[str, torch.Tensor] = {}
    thirds: dict[str, list[torch.Tensor]] = {}
    for native_name, tensor in tensors.items():
        name = native_name
        for pattern, replacement in _ORIGINAL_NAMES:
            name = re.sub(pattern, replacement, name)
        fused = re.sub(r"\.attn\.[qkv]_proj\.", ".attn.qkv.", name)
        if fused != name and name.startswith("vision_model"):
            thirds.setdefault(fused, []).append(tensor)
        else:
            renamed[name] = tensor
    return renamed | {name: torch.cat(parts) for name, parts in thirds.items()}


def _saved_name(name: str) -> str:
    """As transformers writes it to disk: without the leading `model.`, the decoder nested."""
    if name.startswith("model.language_model."):
        return name.replace("model.language_model.", "language_model.model.", 1)
    return "language_model." + name if name.startswith("lm_head.") else name.removeprefix("model.")


def _write_tensors(folder: Path, tensors: dict[str, torch.Tensor], shards: int) -> None:
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return
    names = sorted(tensors)
    weight_map = {}
    for shard in range(shards):
        file_name = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        own = names[shard::shards]
        save_file({name: tensors[name] for name in own}, folder / file_name)
        weight_map.update(dict.fromkeys(own, file_name))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
