"""The forward pass of training: transformers' own weights, on packs.

Equal to transformers' forward pass (a test says so), but without padding in the layers and without a mask.

Shapes: T tokens of a pack, B conversations, L tokens of the longest, N tiles, S the tile's side, C visual tokens a
tile, D the language model's width, h heads, d width of a head, A predicted tokens, V vocabulary.
"""

import torch
from torch.nn import functional
from transformers import InternVLForConditionalGeneration

from deploy.local.demo_model.recipe.packs import Pack
from vision_service.pixels import IMAGENET_MEAN, IMAGENET_STD


def pixel_values(tiles: torch.Tensor) -> torch.Tensor:
    """uint8 (N, S, S, 3) to normalized float32 (N, 3, S, S)."""
    mean, std = torch.from_numpy(IMAGENET_MEAN), torch.from_numpy(IMAGENET_STD)
    return ((tiles.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


def visual_tokens(model: InternVLForConditionalGeneration, tiles: torch.Tensor) -> torch.Tensor:
    """uint8 (N, S, S, 3) to (N, C, D)."""
    tokens = model.model.get_image_features(pixel_values(tiles)).pooler_output
    assert isinstance(tokens, torch.Tensor)
    return tokens


def hidden_states(model: InternVLForConditionalGeneration, pack: Pack, visual: torch.Tensor) -> torch.Tensor:
    """(N, C, D) visual tokens to the language model's last hidden states, (T, D)."""
    is_visual = (pack.token_ids == model.config.image_token_id)[:, None]
    hidden = model.get_input_embeddings()(pack.token_ids).masked_scatter(is_visual, visual)
    text = model.model.language_model
    rotary = text.rotary_emb(hidden[None], pack.positions[None])
    cos, sin = (table[0, :, None] for table in rotary)
    for layer in text.layers:
        hidden = hidden + _attention(layer.self_attn, _normed(layer.input_layernorm, hidden), pack, cos, sin)
        mlp, normed = layer.mlp, _normed(layer.post_attention_layernorm, hidden)
        hidden = hidden + mlp.down_proj(functional.silu(mlp.gate_proj(normed)) * mlp.up_proj(normed))
    return _normed(text.norm, hidden)


def predictions(model: InternVLForConditionalGeneration, pack: Pack, visual: torch.Tensor) -> torch.Tensor:
    """Scores of the tokens of the pack that have a loss, (A, V)."""
    scores = model.lm_head(hidden_states(model, pack, visual)[pack.predicted - 1])
    assert isinstance(scores, torch.Tensor)
    return scores


def token_loss(scores: torch.Tensor, pack: Pack) -> torch.Tensor:
    """The pack's weighted mean of cross entropy."""
    weights = pack.weights[pack.predicted]
    losses = functional.cross_entropy(scores, pack.token_ids[pack.predicted], reduction="none")
    return (losses * weights).sum() / weights.sum()


def _attention(
    attention: torch.nn.Module, hidden: torch.Tensor, pack: Pack, cos: torch.Tensor, sin: torch.Tensor
) -> torch.Tensor:
    width = attention.head_dim
    query, key, value = (
        project(hidden).unflatten(-1, (-1, width)) for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    query, key = _rotated(query, cos, sin), _rotated(key, cos, sin)
    query, key, value = (states[pack.rows].transpose(1, 2) for states in (query, key, value))  # (B, h, L, d)
    mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    result: torch.Tensor = attention.o_proj(mixed.transpose(1, 2).flatten(2).flatten(0, 1)[pack.places])
    return result


def _rotated(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = states.chunk(2, dim=-1)
    return states * cos + torch.cat([-second, first], dim=-1) * sin


def _normed(norm: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    return functional.rms_norm(hidden, hidden.shape[-1:], norm.weight, norm.variance_epsilon)
