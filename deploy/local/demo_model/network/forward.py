"""The forward pass of training: transformers' own weights, on packs.

Equal to transformers' forward pass (a test says so), but without padding in the layers and without a mask.

Shapes: T tokens of a pack, B conversations, L tokens of the longest, N tiles, S the tile's side, C visual tokens a
tile, D the language model's width, h heads, d width of a head, A predicted tokens, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional
from transformers import InternVLForConditionalGeneration
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from deploy.local.demo_model.network.packs import Pack
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


@dataclass
class Cache:
    """Keys and values of B prompts and of the replies written so far, layer by layer."""

    keys: list[torch.Tensor]
    """float32 (B, h, L + W, d) each"""
    values: list[torch.Tensor]
    seen: torch.Tensor
    """bool (B, 1, 1, L + W): which columns hold a token."""
    column: int
    """Where the next token goes."""

    @classmethod
    def for_pack(cls, model: InternVLForConditionalGeneration, pack: Pack, reply_tokens: int) -> "Cache":
        text = model.model.language_model.config
        count, longest = pack.rows.shape
        shape = (count, text.num_key_value_heads, longest + reply_tokens, text.hidden_size // text.num_attention_heads)
        seen = torch.zeros(count, longest + reply_tokens, dtype=torch.bool)
        seen.flatten()[pack.places // longest * (longest + reply_tokens) + pack.places % longest] = True
        layers = range(text.num_hidden_layers)
        return cls(
            [torch.zeros(shape) for _ in layers], [torch.zeros(shape) for _ in layers], seen[:, None, None], longest
        )


def hidden_states(
    model: InternVLForConditionalGeneration, pack: Pack, visual: torch.Tensor, cache: Cache | None = None
) -> torch.Tensor:
    """(N, C, D) visual tokens to the language model's last hidden states, (T, D); fills the cache, if there is one."""
    is_visual = (pack.token_ids == model.config.image_token_id)[:, None]
    hidden = model.get_input_embeddings()(pack.token_ids).masked_scatter(is_visual, visual)

    def mix(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layer: int) -> torch.Tensor:
        query, key, value = (states[pack.rows].transpose(1, 2) for states in (query, key, value))  # (B, h, L, d)
        if cache is not None:
            cache.keys[layer][:, :, : cache.column] = key
            cache.values[layer][:, :, : cache.column] = value
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        return mixed.transpose(1, 2).flatten(2).flatten(0, 1)[pack.places]

    return _layers(model, hidden, pack.positions, mix)


def next_hidden_states(
    model: InternVLForConditionalGeneration, token_ids: torch.Tensor, positions: torch.Tensor, cache: Cache
) -> torch.Tensor:
    """One more token (B,) of each prompt of the cache to its hidden states, (B, D)."""
    cache.seen[..., cache.column] = True

    def mix(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layer: int) -> torch.Tensor:
        cache.keys[layer][:, :, cache.column] = key
        cache.values[layer][:, :, cache.column] = value
        keys, values = cache.keys[layer], cache.values[layer]
        mixed = functional.scaled_dot_product_attention(
            query[:, :, None], keys, values, attn_mask=cache.seen, enable_gqa=True
        )
        return mixed[:, :, 0].flatten(1)

    hidden = _layers(model, model.get_input_embeddings()(token_ids), positions, mix)
    cache.column += 1
    return hidden


Mix = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], torch.Tensor]
"""Attention of rotated queries, keys and values (T, h, d) in a layer: (T, h * d)."""


def _layers(
    model: InternVLForConditionalGeneration, hidden: torch.Tensor, positions: torch.Tensor, mix: Mix
) -> torch.Tensor:
    text = model.model.language_model
    cos, sin = (table[0, :, None] for table in text.rotary_emb(hidden[None], positions[None]))
    for index, layer in enumerate(text.layers):
        attention, normed = layer.self_attn, _normed(layer.input_layernorm, hidden)
        query, key, value = (
            project(normed).unflatten(-1, (-1, attention.head_dim))
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        mixed = mix(_rotated(query, cos, sin), _rotated(key, cos, sin), value, index)
        hidden = hidden + attention.o_proj(mixed)
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


def _rotated(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = states.chunk(2, dim=-1)
    return states * cos + torch.cat([-second, first], dim=-1) * sin


def _normed(norm: Qwen2RMSNorm, hidden: torch.Tensor) -> torch.Tensor:
    return functional.rms_norm(hidden, hidden.shape[-1:], norm.weight, norm.variance_epsilon)
