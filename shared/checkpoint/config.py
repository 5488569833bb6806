"""config.json of a checkpoint as frozen dataclasses.

Reads both layouts: the original one (`llm_config`, written by OpenGVLab) and transformers' (`text_config`, the -hf
repositories). Knows the two sets of key names, and nothing of tensors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from shared.checkpoint.files import read_json, refuse_adapter
from shared.checkpoint.language import ConfigUnsupported, is_tied, language_config, position_increment

DEFAULT_SYSTEM_MESSAGE = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)
"""System message of the template internvl2_5, where config.json gives none."""


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
    layout: Literal["original", "hf"] = "original"
    is_tied: bool = False
    """Whether the embedding is the head, where there is no other."""
    position_increment: float = 1.0
    """V2PE increment that the model was tuned for: of images whose request, and whose operator, name none."""
    tiling_source: str = "config.json"
    """The file that says how images are cut."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_tile_count <= self.max_tile_count:
            raise ConfigUnsupported(
                f"{self.tiling_source} has tile counts {self.min_tile_count} to {self.max_tile_count}: they must be 1 "
                "or more, the smaller one first"
            )

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Raises ConfigUnsupported and CheckpointInvalid with the file, the key and the reason."""
        refuse_adapter(folder)
        path = folder / "config.json"
        if not path.is_file():
            raise ConfigUnsupported(f"{folder} holds no config.json")
        config = read_json(path)
        if not config.keys() & {"llm_config", "text_config"}:
            raise ConfigUnsupported(f"{path} has neither llm_config nor text_config: not an InternVL checkpoint")
        _require(config, "model_type", ("internvl_chat", "internvl"), default="internvl_chat")
        if "llm_config" in config:
            return cls._from_original(config)
        return cls._from_transformers(config, *_processor(folder))

    @classmethod
    def _from_original(cls, config: Mapping[str, Any]) -> Self:
        _require(config, "select_layer", (-1,), default=-1)
        _require(config, "ps_version", ("v2",), default="v1")
        _require(config, "template", ("internvl2_5",), default="internvl2_5")
        _require(config, "pad2square", (False,), default=False)
        vision = VisionConfig.from_original({**_part(config, "vision_config"), **_forced_size(config)})
        return cls(
            vision=vision,
            language=language_config(config, "llm_config"),
            downsample_ratio=config.get("downsample_ratio", 0.5),
            min_tile_count=config.get("min_dynamic_patch", 1),
            max_tile_count=config.get("max_dynamic_patch", 6) if config.get("dynamic_image_size", True) else 1,
            use_thumbnail=config.get("use_thumbnail", False),
            system_message=_or_default(config.get("system_message")),
            is_tied=is_tied(config, "llm_config", default=False),
            position_increment=position_increment(config),
        )

    @classmethod
    def _from_transformers(cls, config: Mapping[str, Any], processor: Mapping[str, Any], source: str) -> Self:
        _require(config, "vision_feature_layer", (-1,), default=-1)
        return cls(
            vision=VisionConfig.from_transformers(_part(config, "vision_config")),
            language=language_config(config, "text_config"),
            downsample_ratio=config.get("downsample_ratio", 0.5),
            min_tile_count=processor.get("min_patches", 1),
            max_tile_count=processor.get("max_patches", 12),
            use_thumbnail=True,
            system_message=DEFAULT_SYSTEM_MESSAGE,
            layout="hf",
            is_tied=is_tied(config, "text_config", default=True),
            position_increment=position_increment(config),
            tiling_source=source,
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


def _require(config: Mapping[str, Any], key: str, served: tuple[object, ...], *, default: object) -> None:
    if config.get(key, default) not in served:
        raise ConfigUnsupported(
            f"config.json has {key} = {config.get(key, default)!r}; only {' and '.join(map(repr, served))} is served"
        )


def _part(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = config.get(key)
    if not isinstance(part, Mapping):
        raise ConfigUnsupported(f"config.json has no {key}: not the whole configuration of an InternVL checkpoint")
    return part


def _processor(folder: Path) -> tuple[Mapping[str, Any], str]:
    """Options of the image processor, and the file they are from; transformers 5 keeps them with the processor's."""
    whole, alone = folder / "processor_config.json", folder / "preprocessor_config.json"
    if whole.is_file() and isinstance(options := read_json(whole).get("image_processor"), dict):
        return options, whole.name
    if alone.is_file():
        return read_json(alone), alone.name
    return {}, "transformers' defaults"


def _forced_size(config: Mapping[str, Any]) -> dict[str, int]:
    forced = config.get("force_image_size")
    return {"image_size": forced} if forced else {}


def _or_default(system_message: str | None) -> str:
    return DEFAULT_SYSTEM_MESSAGE if system_message is None else system_message


def _square_side(size: int | list[int]) -> int:
    if isinstance(size, int):
        return size
    if len(set(size)) != 1:
        raise ConfigUnsupported(f"tiles and patches must be square, got {size}")
    return size[0]
