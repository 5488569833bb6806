"""config.json of a checkpoint as frozen dataclasses.

Reads both layouts: the original one (`llm_config`, written by OpenGVLab) and transformers' (`text_config`, the -hf
repositories). Knows the two sets of key names, and nothing of tensors.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

DEFAULT_SYSTEM_MESSAGE = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)
"""System message of the template internvl2_5, where config.json gives none."""


class ConfigUnsupported(ValueError):
    """A checkpoint that is not an InternVL3 model as this package serves it."""


@dataclass(frozen=True)
class VisionConfig:
    """InternViT, 300M or 6B style."""

    hidden_size: int
    layer_count: int
    head_count: int
    intermediate_size: int
    image_size: int
    patch_size: int
    norm: Literal["layer_norm", "rms_norm"]
    norm_eps: float
    qkv_bias: bool
    qk_norm: bool

    @classmethod
    def from_original(cls, config: Mapping[str, Any]) -> Self:
        """Absent keys take the defaults of OpenGVLab's class, which are the 6B style's."""
        return cls(
            hidden_size=config.get("hidden_size", 3200),
            layer_count=config.get("num_hidden_layers", 48),
            head_count=config.get("num_attention_heads", 25),
            intermediate_size=config.get("intermediate_size", 12800),
            image_size=config.get("image_size", 224),
            patch_size=config.get("patch_size", 14),
            norm=config.get("norm_type", "rms_norm"),
            norm_eps=config.get("layer_norm_eps", 1e-6),
            qkv_bias=config.get("qkv_bias", False),
            qk_norm=config.get("qk_normalization", True),
        )

    @classmethod
    def from_transformers(cls, config: Mapping[str, Any]) -> Self:
        """Absent keys take the defaults of transformers' InternVLVisionConfig, which are the 300M style's."""
        return cls(
            hidden_size=config.get("hidden_size", 1024),
            layer_count=config.get("num_hidden_layers", 24),
            head_count=config.get("num_attention_heads", 16),
            intermediate_size=config.get("intermediate_size", 4096),
            image_size=_square_side(config.get("image_size", 448)),
            patch_size=_square_side(config.get("patch_size", 14)),
            norm=config.get("norm_type", "layer_norm"),
            norm_eps=config.get("layer_norm_eps", 1e-6),
            qkv_bias=config.get("attention_bias", False),
            qk_norm=config.get("use_qk_norm", False),
        )


@dataclass(frozen=True)
class ModelConfig:
    """Configuration of a checkpoint, as far as the services need it."""

    vision: VisionConfig
    language: Mapping[str, Any]
    """The decoder's own configuration, as transformers takes it (`model_type`, `hidden_size`, ...)."""
    downsample_ratio: float
    min_tile_count: int
    max_tile_count: int
    use_thumbnail: bool
    system_message: str

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Raises ConfigUnsupported with the reason."""
        path = folder / "config.json"
        if not path.is_file():
            raise ConfigUnsupported(f"{folder} holds no config.json")
        config = json.loads(path.read_text("utf-8"))
        if "llm_config" in config:
            return cls._from_original(config)
        if "text_config" in config:
            processor_path = folder / "preprocessor_config.json"
            processor = json.loads(processor_path.read_text("utf-8")) if processor_path.is_file() else {}
            return cls._from_transformers(config, processor)
        raise ConfigUnsupported(f"{path} has neither llm_config nor text_config: not an InternVL checkpoint")

    @classmethod
    def _from_original(cls, config: Mapping[str, Any]) -> Self:
        _require(config, "select_layer", -1, default=-1)
        _require(config, "ps_version", "v2", default="v1")
        _require(config, "template", "internvl2_5", default="internvl2_5")
        vision = VisionConfig.from_original({**config["vision_config"], **_forced_size(config)})
        return cls(
            vision=vision,
            language=_untied(config["llm_config"]),
            downsample_ratio=config.get("downsample_ratio", 0.5),
            min_tile_count=config.get("min_dynamic_patch", 1),
            max_tile_count=config.get("max_dynamic_patch", 6) if config.get("dynamic_image_size", True) else 1,
            use_thumbnail=config.get("use_thumbnail", False),
            system_message=_or_default(config.get("system_message")),
        )

    @classmethod
    def _from_transformers(cls, config: Mapping[str, Any], processor: Mapping[str, Any]) -> Self:
        _require(config, "vision_feature_layer", -1, default=-1)
        return cls(
            vision=VisionConfig.from_transformers(config["vision_config"]),
            language=_untied(config["text_config"]),
            downsample_ratio=config.get("downsample_ratio", 0.5),
            min_tile_count=processor.get("min_patches", 1),
            max_tile_count=processor.get("max_patches", 12),
            use_thumbnail=True,
            system_message=DEFAULT_SYSTEM_MESSAGE,
        )

    @property
    def tile_size(self) -> int:
        """Side of a tile in pixels."""
        return self.vision.image_size

    @property
    def tokens_per_tile(self) -> int:
        """Visual tokens of a tile: its patches after pixel unshuffle."""
        return int((self.vision.image_size // self.vision.patch_size) ** 2 * self.downsample_ratio**2)

    @property
    def hidden_size(self) -> int:
        """Width of a visual token, equal to the decoder's."""
        return int(self.language["hidden_size"])

    @property
    def max_positions(self) -> int:
        """Trained window in positions."""
        return int(self.language["max_position_embeddings"])


def _require(config: Mapping[str, Any], key: str, wanted: object, *, default: object) -> None:
    if config.get(key, default) != wanted:
        raise ConfigUnsupported(f"config.json has {key} = {config.get(key, default)!r}; only {wanted!r} is served")


def _forced_size(config: Mapping[str, Any]) -> dict[str, int]:
    forced = config.get("force_image_size")
    return {"image_size": forced} if forced else {}


def _untied(language: Mapping[str, Any]) -> dict[str, Any]:
    """InternVL3 stores lm_head for every size, also where the base model ties it."""
    return {**language, "tie_word_embeddings": False}


def _or_default(system_message: str | None) -> str:
    return DEFAULT_SYSTEM_MESSAGE if system_message is None else system_message


def _square_side(size: int | list[int]) -> int:
    if isinstance(size, int):
        return size
    if len(set(size)) != 1:
        raise ConfigUnsupported(f"tiles and patches must be square, got {size}")
    return size[0]
