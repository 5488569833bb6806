"""Names of tensors: transformers' InternVL classes on one side, the original InternVL3 checkpoints on the other.

Pure renaming; the one change of shape is that the original keeps query, key and value of the tower in one tensor.
"""

import re

import torch

Tensors = dict[str, torch.Tensor]

_TO_ORIGINAL: tuple[tuple[str, str], ...] = (
    (r"^model\.vision_tower\.embeddings\.cls_token$", "vision_model.embeddings.class_embedding"),
    (r"^model\.vision_tower\.embeddings\.patch_embeddings\.projection\.", "vision_model.embeddings.patch_embedding."),
    (r"^model\.vision_tower\.embeddings\.position_embeddings$", "vision_model.embeddings.position_embedding"),
    (r"^model\.vision_tower\.encoder\.layer\.", "vision_model.encoder.layers."),
    (r"\.attention\.projection_layer\.", ".attn.proj."),
    (r"\.attention\.([qkv])_proj\.", r".attn.\1."),
    (r"^(vision_model\..*)\.attention\.([qk])_norm\.", r"\1.attn.\2_norm."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.lambda_([12])$", r".ls\1"),
    (r"^model\.multi_modal_projector\.layer_norm\.", "mlp1.0."),
    (r"^model\.multi_modal_projector\.linear_1\.", "mlp1.1."),
    (r"^model\.multi_modal_projector\.linear_2\.", "mlp1.3."),
    (r"^model\.language_model\.", "language_model.model."),
    (r"^lm_head\.", "language_model.lm_head."),
)

_TO_NATIVE: tuple[tuple[str, str], ...] = (
    (r"^language_model\.lm_head\.", "lm_head."),
    (r"^language_model\.model\.", "model.language_model."),
    (r"^mlp1\.0\.", "model.multi_modal_projector.layer_norm."),
    (r"^mlp1\.1\.", "model.multi_modal_projector.linear_1."),
    (r"^mlp1\.3\.", "model.multi_modal_projector.linear_2."),
    (r"^vision_model\.embeddings\.class_embedding$", "model.vision_tower.embeddings.cls_token"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "model.vision_tower.embeddings.patch_embeddings.projection."),
    (r"^vision_model\.embeddings\.position_embedding$", "model.vision_tower.embeddings.position_embeddings"),
    (r"^vision_model\.encoder\.layers\.", "model.vision_tower.encoder.layer."),
    (r"\.attn\.proj\.", ".attention.projection_layer."),
    (r"\.attn\.([qkv])\.", r".attention.\1_proj."),
    (r"\.attn\.([qk])_norm\.", r".attention.\1_norm."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.ls([12])$", r".lambda_\1"),
)


def to_original(native: Tensors) -> Tensors:
    """transformers' names to the original ones; q, k and v of a tower layer become one `qkv`."""
    original: Tensors = {}
    for name, tensor in native.items():
        renamed = _renamed(name, _TO_ORIGINAL)
        query = re.fullmatch(r"(vision_model\..*\.attn\.)q(\..*)", renamed)
        if query:
            key, value = (native[name.replace(".q_proj.", f".{other}_proj.")] for other in "kv")
            original[f"{query[1]}qkv{query[2]}"] = torch.cat([tensor, key, value])
        elif not re.search(r"^vision_model\..*\.attn\.[kv]\.", renamed):
            original[renamed] = tensor
    return original


def to_native(original: Tensors) -> Tensors:
    """The inverse of `to_original`."""
    native: Tensors = {}
    for name, tensor in original.items():
        if ".attn.qkv." not in name:
            native[_renamed(name, _TO_NATIVE)] = tensor
            continue
        for part, third in zip("qkv", tensor.chunk(3), strict=True):
            native[_renamed(name.replace(".qkv.", f".{part}."), _TO_NATIVE)] = third
    return native


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
