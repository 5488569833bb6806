"""Positions to rotations of queries and keys. Positions may be fractions; everything is float32 until the last cast.

transformers' own rotary module keeps a growing dynamic-NTK base as module state, so that a result depends on earlier
calls, and casts its frequencies when the model is cast. Here both are arguments: a rotation is a function of the
position and of the request's `ntk_length` alone.

Legend: T tokens of a step, D head dim, N heads.
"""

from dataclasses import dataclass

import torch
from transformers import PretrainedConfig


class RotaryUnsupported(ValueError):
    """A kind of rotary scaling that would give other numbers."""


class Rotation:
    """Cosines and sines of T tokens, (T, D) each, in the model's dtype; both halves of D hold the same angles."""

    def __init__(self, cos: torch.Tensor, sin: torch.Tensor) -> None:
        self.cos, self.sin = cos, sin
        half = sin.shape[-1] // 2
        self._signed_sin = torch.cat([-sin[:, :half], sin[:, half:]], dim=-1)

    def apply(self, heads: torch.Tensor) -> torch.Tensor:
        """Rotates (T, N, D): each component with its partner half a head away."""
        partners = heads.roll(heads.shape[-1] // 2, dims=-1)
        return torch.addcmul(heads * self.cos[:, None], partners, self._signed_sin[:, None])


@dataclass(frozen=True)
class Rotary:
    """The rotary embedding of one model."""

    theta: float
    head_dim: int
    window: int
    """Trained window in positions."""
    ntk_factor: float = 1.0
    """Factor of dynamic NTK scaling; 1 where the model has none."""

    @classmethod
    def from_config(cls, config: PretrainedConfig) -> "Rotary":
        """Raises RotaryUnsupported for anything but plain and dynamic rotation of whole heads."""
        parameters = config.rope_parameters
        kind = parameters.get("rope_type", "default")
        if kind not in ("default", "dynamic") or parameters.get("partial_rotary_factor", 1.0) != 1.0:
            raise RotaryUnsupported(f"rotary parameters {parameters} are not served")
        return cls(
            theta=float(parameters["rope_theta"]),
            head_dim=int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads),
            window=int(config.max_position_embeddings),
            ntk_factor=float(parameters["factor"]) if kind == "dynamic" else 1.0,
        )

    def base(self, ntk_length: int) -> float:
        """Base of the frequencies for a request of `ntk_length` positions: theta as far as the window goes."""
        if ntk_length <= self.window:
            return self.theta
        stretch = self.ntk_factor * ntk_length / self.window - (self.ntk_factor - 1)
        return float(self.theta * stretch ** (self.head_dim / (self.head_dim - 2)))

    def inverse_frequencies(self, ntk_length: int, device: torch.device) -> torch.Tensor:
        """float32 (D/2,)."""
        return 1.0 / self.base(ntk_length) ** self._exponents(device)

    def frequencies(self, ntk_lengths: torch.Tensor) -> torch.Tensor:
        """float32 (T, D/2): the same for tokens whose int64 lengths (T,) are known on the device alone."""
        stretch = self.ntk_factor * ntk_lengths.double() / self.window - (self.ntk_factor - 1)
        stretch = stretch.where(ntk_lengths > self.window, 1.0)
        bases = (self.theta * stretch ** (self.head_dim / (self.head_dim - 2))).float()
        return 1.0 / bases[:, None] ** self._exponents(ntk_lengths.device)

    def _exponents(self, device: torch.device) -> torch.Tensor:
        return torch.arange(0, self.head_dim, 2, dtype=torch.int64, device=device).float() / self.head_dim

    def __call__(
        self, positions: torch.Tensor, ntk_lengths: torch.Tensor, counts: torch.Tensor, dtype: torch.dtype
    ) -> Rotation:
        """Rotation of the tokens of some sequences, one after the other.

        positions float32 (T,); of each of S sequences its `ntk_length` (0: the trained rotation) and its tokens, T in
        sum, int64 (S,) on the CPU.
        """
        assert positions.dtype == torch.float32
        angles = positions[:, None] * self._frequencies(ntk_lengths, counts, positions.device)
        angles = torch.cat([angles, angles], dim=-1)
        return Rotation(angles.cos().to(dtype), angles.sin().to(dtype))

    def _frequencies(self, ntk_lengths: torch.Tensor, counts: torch.Tensor, device: torch.device) -> torch.Tensor:
        """(1, D/2) or (T, D/2): most steps have nothing past the window in them."""
        if int(ntk_lengths.max()) <= self.window:
            return self.inverse_frequencies(0, device)[None]
        rows = [
            self.inverse_frequencies(length, device).expand(count, -1)
            for length, count in zip(ntk_lengths.tolist(), counts.tolist(), strict=True)
        ]
        return torch.cat(rows)
