"""Costs of the released sizes by name, before there is a checkpoint. 9B is another decoder: give its folder."""

from shared.checkpoint.config import DEFAULT_SYSTEM_MESSAGE, ModelConfig, VisionConfig

_300M = VisionConfig(1024, 24, 16, 4096, 448, 14, "layer_norm", 1e-6, qkv_bias=True, qk_norm=False)
_6B = VisionConfig(3200, 45, 25, 12800, 448, 14, "rms_norm", 1e-6, qkv_bias=False, qk_norm=True)
_VOCABULARY = 151_674

# Hidden size, layers, heads, key-value heads, width of the MLP.
_DECODERS = {
    "1B": (_300M, (896, 24, 14, 2, 4864)),
    "2B": (_300M, (1536, 28, 12, 2, 8960)),
    "8B": (_300M, (3584, 28, 28, 4, 18944)),
    "14B": (_300M, (5120, 48, 40, 8, 13824)),
    "38B": (_6B, (5120, 64, 40, 8, 27648)),
    "78B": (_6B, (8192, 80, 64, 8, 29568)),
}
SIZES = tuple(_DECODERS)


def size_of(config: ModelConfig) -> str | None:
    """The released size of these shapes; None: another model."""
    keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size")
    shape = tuple(config.language.get(key) for key in keys)
    tower = (config.vision.hidden_size, config.vision.layer_count)
    for size, (vision, decoder) in _DECODERS.items():
        if shape == decoder and tower == (vision.hidden_size, vision.layer_count):
            return size
    return None


def config_of(size: str) -> ModelConfig:
    """Configuration of a released size. Raises ValueError for an unknown one."""
    if size not in _DECODERS:
        raise ValueError(f"no such size: {size}; there are {', '.join(SIZES)}, or a checkpoint's folder")
    vision, (hidden, layers, heads, kv_heads, intermediate) = _DECODERS[size]
    language = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": intermediate,
        "vocab_size": _VOCABULARY,
    }
    return ModelConfig(vision, language, 0.5, 1, 12, True, DEFAULT_SYSTEM_MESSAGE)
