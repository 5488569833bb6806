"""Positions to rotations. Positions may be fractions; everything is float32 until the last cast.

Takes the place of the decoder's own rotary module: transformers keeps a growing dynamic-NTK base as module state, so
that a result depends on earlier calls, and casts its frequencies when the model is cast. Here the base is the trained
one, and the service keeps every request inside the trained window, where dynamic NTK is the plain rotation.
"""

import torch
from torch import nn
from transformers import PretrainedConfig


class RotaryUnsupported(ValueError):
    """A kind of rotary scaling that would give other numbers inside the trained window."""


class FractionalRotary(nn.Module):
    """Called like transformers' rotary modules: (hidden states, positions float32 (B, T)) -> cos and sin (B, T, D)."""

    def __init__(self, *, theta: float, head_dim: int, device: torch.device) -> None:
        super().__init__()
        exponents = torch.arange(0, head_dim, 2, dtype=torch.int64, device=device).float() / head_dim
        self._inverse_frequencies = 1.0 / theta**exponents
        """float32 (D/2,). No buffer: Module.to(bfloat16) must not reach it."""

    @classmethod
    def from_config(cls, config: PretrainedConfig, device: torch.device) -> "FractionalRotary":
        """Raises RotaryUnsupported for anything but plain and dynamic rotation of whole heads."""
        parameters = config.rope_parameters
        kind = parameters.get("rope_type", "default")
        if kind not in ("default", "dynamic") or parameters.get("partial_rotary_factor", 1.0) != 1.0:
            raise RotaryUnsupported(f"rotary parameters {parameters} are not served")
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(theta=float(parameters["rope_theta"]), head_dim=head_dim, device=device)

    def forward(self, hidden: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert positions.dtype == torch.float32
        angles = positions[..., None] * self._inverse_frequencies
        angles = torch.cat([angles, angles], dim=-1)
        return angles.cos().to(hidden.dtype), angles.sin().to(hidden.dtype)
