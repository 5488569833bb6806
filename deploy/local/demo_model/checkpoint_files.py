"""The demo model's folder in the original InternVL3 layout: written at export, read back for checks and evaluation."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import InternVLForConditionalGeneration

from deploy.local.demo_model import model as architecture
from deploy.local.demo_model.layout import Tensors, to_native, to_original
from deploy.local.demo_model.model import SIZE, Size
from deploy.local.demo_model.talk import tokenizer as special

FOLDER = Path(__file__).parent / "checkpoint"


def write(folder: Path, native: Tensors, tokenizer_folder: Path) -> None:
    """Everything a server needs: weights rounded to bfloat16, configuration and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer_folder / name, folder / name)
    tokenizer = special.load(folder)
    weights = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in to_original(native).items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    end, filler = (tokenizer.convert_tokens_to_ids(token) for token in (special.IM_END, special.END_OF_TEXT))
    assert isinstance(end, int) and isinstance(filler, int)
    _write_json(folder / "config.json", config(len(tokenizer), SIZE, end=end, filler=filler))
    _write_json(folder / "generation_config.json", {"do_sample": False, "eos_token_id": end, "pad_token_id": filler})


def read_model(folder: Path = FOLDER) -> InternVLForConditionalGeneration:
    """The folder's weights in transformers' own model, float32, ready to answer."""
    tokenizer = special.load(folder)
    image_token_id = tokenizer.convert_tokens_to_ids(special.IMG_CONTEXT)
    assert isinstance(image_token_id, int)
    size = Size.from_config(json.loads((folder / "config.json").read_text()))
    model = architecture.build(len(tokenizer), image_token_id, size)
    weights = to_native(load_file(folder / "model.safetensors"))
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    model.train(False)
    return model


def config(vocab_size: int, size: Size, *, end: int, filler: int) -> dict[str, Any]:
    """config.json with the keys of a released InternVL3."""
    vision, text = architecture.vision_config(size), architecture.text_config(vocab_size, size)
    return {
        "architectures": ["InternVLChatModel"],
        "model_type": "internvl_chat",
        "downsample_ratio": 0.5,
        "dynamic_image_size": True,
        "force_image_size": architecture.TILE_SIZE,
        "image_fold": None,
        "llm_config": {
            "architectures": ["Qwen2ForCausalLM"],
            "attention_dropout": 0.0,
            "bos_token_id": filler,
            "eos_token_id": end,
            "hidden_act": text.hidden_act,
            "hidden_size": text.hidden_size,
            "initializer_range": text.initializer_range,
            "intermediate_size": text.intermediate_size,
            "max_position_embeddings": text.max_position_embeddings,
            "max_window_layers": text.num_hidden_layers,
            "model_type": "qwen2",
            "num_attention_heads": text.num_attention_heads,
            "num_hidden_layers": text.num_hidden_layers,
            "num_key_value_heads": text.num_key_value_heads,
            "rms_norm_eps": text.rms_norm_eps,
            "rope_scaling": {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"},
            "rope_theta": 1000000.0,
            "sliding_window": None,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "use_cache": False,
            "use_sliding_window": False,
            "vocab_size": vocab_size,
        },
        "max_dynamic_patch": architecture.TILING.max_tile_count,
        "min_dynamic_patch": architecture.TILING.min_tile_count,
        "pad2square": False,
        "ps_version": "v2",
        "select_layer": -1,
        "system_message": architecture.SYSTEM_MESSAGE,
        "template": "internvl2_5",
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_backbone_lora": 0,
        "use_llm_lora": 0,
        "use_thumbnail": architecture.TILING.use_thumbnail,
        "vision_config": {
            "architectures": ["InternVisionModel"],
            "attention_dropout": 0.0,
            "drop_path_rate": 0.0,
            "dropout": 0.0,
            "hidden_act": "gelu",
            "hidden_size": vision.hidden_size,
            "image_size": architecture.TILE_SIZE,
            "initializer_factor": 1.0,
            "initializer_range": vision.initializer_range,
            "intermediate_size": vision.intermediate_size,
            "layer_norm_eps": vision.layer_norm_eps,
            "model_type": "intern_vit_6b",
            "norm_type": vision.norm_type,
            "num_attention_heads": vision.num_attention_heads,
            "num_channels": 3,
            "num_hidden_layers": vision.num_hidden_layers,
            "patch_size": architecture.PATCH_SIZE,
            "qk_normalization": False,
            "qkv_bias": True,
            "torch_dtype": "bfloat16",
            "use_flash_attn": True,
        },
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
