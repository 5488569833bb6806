"""The decoder's part of config.json: its own configuration, how it is quantised, and V2PE's keys.

`rope_pos_id_version` and `rope_pos_id_stride` are keys of OpenGVLab's V2PE: a stride of 64 is an increment of 1/4.
"""

from collections.abc import Mapping
from typing import Any

_STRIDES = tuple(2**power for power in range(9))
_NEEDED = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
)
"""Keys without which transformers would take the numbers of another model."""


class ConfigUnsupported(ValueError):
    """A checkpoint that is not an InternVL3 model as this package serves it."""


def language_config(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The decoder's configuration, as transformers takes it. Raises ConfigUnsupported that names the key.

    Its embedding is not tied for transformers: a head that is stored once is read twice. V2PE's own rotary type is the
    plain rotation: with it there is no dynamic NTK.
    """
    language = config[key]
    if not isinstance(language, Mapping):
        raise ConfigUnsupported(f"config.json has no {key}: not the whole configuration of an InternVL checkpoint")
    missing = [name for name in _NEEDED if language.get(name) is None]
    if missing:
        raise ConfigUnsupported(
            f"config.json: {key} lacks {', '.join(missing)}: copy that from the checkpoint it was made from"
        )
    found = {**language, "tie_word_embeddings": False}
    for name in ("rope_scaling", "rope_parameters"):
        scaling = found.get(name)
        if isinstance(scaling, Mapping) and "v2pe" in (scaling.get("type"), scaling.get("rope_type")):
            theta = {"rope_theta": scaling["rope_theta"]} if "rope_theta" in scaling else {}
            found[name] = {"rope_type": "default", **theta} if theta else None
    if "quantization_config" in config:
        found.setdefault("quantization_config", config["quantization_config"])
    return found


def is_tied(config: Mapping[str, Any], key: str, *, default: bool) -> bool:
    """Whether config.json ties embedding and head, in either place; `default`: of the class that wrote it."""
    return bool(config[key].get("tie_word_embeddings", False) or config.get("tie_word_embeddings", default))


def quantisation(language: Mapping[str, Any]) -> str | None:
    """How weights are quantised, such as "awq, 4 bits"; None: they are not."""
    options = language.get("quantization_config")
    if not isinstance(options, Mapping):
        return None
    method, bits = options.get("quant_method", "unknown method"), options.get("bits") or options.get("w_bit")
    return f"{method}, {bits} bits" if bits else str(method)


def refuse_quantised(language: Mapping[str, Any]) -> None:
    """Raises ConfigUnsupported: for an engine that computes with weights as they are stored."""
    if (how := quantisation(language)) is not None:
        raise ConfigUnsupported(
            f"config.json has quantization_config ({how}): the torch engine takes weights in bfloat16, float16 or "
            "float32; serve the checkpoint that is not quantised, with weights=int8 if need be, or use engine=vllm"
        )


def position_increment(config: Mapping[str, Any]) -> float:
    """The increment of `rope_pos_id_version` and `rope_pos_id_stride`; 1 without them."""
    version = config.get("rope_pos_id_version") or "default"
    if version not in ("default", "v2pe_fix", "v2pe_rnd"):
        raise ConfigUnsupported(
            f"config.json has rope_pos_id_version = {version!r}; default, v2pe_fix, v2pe_rnd are known"
        )
    stride = config.get("rope_pos_id_stride")
    if version == "default" or (stride is None and version == "v2pe_rnd"):
        return 1.0  # v2pe_rnd: trained with all increments
    if not isinstance(stride, int) or stride not in _STRIDES:
        raise ConfigUnsupported(f"config.json has rope_pos_id_stride = {stride!r}; it must be a power of two, 1 to 256")
    return stride / 256
