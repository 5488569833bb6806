"""One decoder layer, in two ways: as transformers wrote it, and with its steps joined.

`TransformersLayer` runs any layer that calls a registered attention function. `FusedLayer` computes what the layers of
Llama, Qwen2 and Qwen3 have in common with fewer and larger operations; a test says that both agree.

Legend: T tokens of the step, E hidden size, H query heads, G key-value heads, D head dim.
"""

from abc import ABC, abstractmethod

import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer

from llm_service.model.attention.interface import PagedStep
from llm_service.model.hardware import Hardware
from llm_service.model.projection import Project, Projection, SummedProjection
from llm_service.model.ranks.ranks import Ranks

FUSED_LAYERS = (LlamaDecoderLayer, Qwen2DecoderLayer, Qwen3DecoderLayer)
"""Pre-norm, grouped heads, rotation of whole heads, SwiGLU: layers that FusedLayer computes."""


class Layer(ABC):
    """hidden (T, E) -> (T, E)."""

    @abstractmethod
    def __call__(self, hidden: torch.Tensor, step: PagedStep) -> torch.Tensor: ...


class TransformersLayer(Layer):
    """Any decoder layer of transformers' registry."""

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer

    def __call__(self, hidden: torch.Tensor, step: PagedStep) -> torch.Tensor:
        rotation = (step.rotation.cos[None], step.rotation.sin[None])
        result: torch.Tensor = self._layer(hidden[None], position_embeddings=rotation, paged=step)
        return result[0]


class FusedLayer(Layer):
    """A layer of FUSED_LAYERS: q, k and v in one projection, the residual sums and SwiGLU inside projections.

    With several ranks its weights are this rank's parts: H and G are heads of this rank.
    """

    def __init__(self, layer: nn.Module, hardware: Hardware, ranks: Ranks) -> None:
        project, norm = hardware.layer_linear, hardware.norm
        attention, mlp = layer.get_submodule("self_attn"), layer.get_submodule("mlp")
        self._index = int(attention.layer_idx)  # type: ignore[arg-type]
        self._head_dim = int(attention.head_dim)  # type: ignore[arg-type]
        self._scaling = float(attention.scaling)  # type: ignore[arg-type]
        q, k, v = (attention.get_submodule(f"{name}_proj") for name in "qkv")
        self._query_heads, self._key_heads = (
            part.get_parameter("weight").shape[0] // self._head_dim for part in (q, k)
        )
        weight, bias = (_joined(name, q, k, v) for name in ("weight", "bias"))
        assert weight is not None
        self._qkv = project(weight, bias)
        self._output = _summed(attention.get_submodule("o_proj"), project, ranks)
        self._gate, self._up = (_projection(mlp.get_submodule(f"{name}_proj"), project) for name in ("gate", "up"))
        self._down = _summed(mlp.get_submodule("down_proj"), project, ranks)
        self._attention_norm = norm(layer.get_submodule("input_layernorm"))
        self._mlp_norm = norm(layer.get_submodule("post_attention_layernorm"))
        has_head_norms = hasattr(attention, "q_norm")
        self._query_norm = norm(attention.get_submodule("q_norm")) if has_head_norms else None
        self._key_norm = norm(attention.get_submodule("k_norm")) if has_head_norms else None

    def __call__(self, hidden: torch.Tensor, step: PagedStep) -> torch.Tensor:
        hidden = self._output.plus(self._attend(self._attention_norm(hidden), step), hidden)
        x = self._mlp_norm(hidden)
        return self._down.plus(self._up.times(x, self._gate.silu(x)), hidden)

    def _attend(self, x: torch.Tensor, step: PagedStep) -> torch.Tensor:
        """(T, E) -> (T, H * D)."""
        heads = self._qkv(x).view(len(x), -1, self._head_dim)
        if self._query_norm is not None and self._key_norm is not None:
            query, key, value = torch.split(heads, [self._query_heads, self._key_heads, self._key_heads], dim=1)
            rotated = step.rotation.apply(torch.cat([self._query_norm(query), self._key_norm(key)], dim=1))
        else:
            rotated = step.rotation.apply(heads[:, : self._query_heads + self._key_heads])
            value = heads[:, self._query_heads + self._key_heads :]
        query, key = torch.split(rotated, [self._query_heads, self._key_heads], dim=1)
        return step.attend(self._index, query, key, value, self._scaling).flatten(1)


def _projection(linear: nn.Module, project: Project) -> Projection:
    return project(*_parameters(linear))


def _summed(linear: nn.Module, project: Project, ranks: Ranks) -> Projection:
    """A projection whose input features are spread over the ranks."""
    if ranks.size == 1:
        return _projection(linear, project)
    weight, bias = _parameters(linear)
    return SummedProjection(project(weight, None), bias, ranks)


def _parameters(linear: nn.Module) -> tuple[torch.Tensor, torch.Tensor | None]:
    parameters = dict(linear.named_parameters())
    bias = parameters.get("bias")
    return parameters["weight"].detach(), None if bias is None else bias.detach()


def _joined(name: str, *linears: nn.Module) -> torch.Tensor | None:
    """A parameter of several linear maps as that of one; None where they have none of the name."""
    parts = [parameter.detach() for linear in linears for own, parameter in linear.named_parameters() if own == name]
    return torch.cat(parts) if parts else None
