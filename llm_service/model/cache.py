"""Keys and values of all layers, in pages."""

import torch


class PagedCache:
    """Two tensors (N, P, G, D) a layer: N pages of P tokens, G key-value heads, D head dim."""

    def __init__(
        self,
        *,
        layer_count: int,
        page_count: int,
        page_size: int,
        head_count: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.page_size = page_size
        shape = (page_count, page_size, head_count, head_dim)
        # Not zeroed: no slot is read before it is written, and untouched memory costs nothing on a CPU.
        self.keys = [torch.empty(shape, dtype=dtype, device=device) for _ in range(layer_count)]
        self.values = [torch.empty(shape, dtype=dtype, device=device) for _ in range(layer_count)]

    def write(self, layer: int, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Stores keys and values (T, G, D) of T tokens; a slot, int64 (T,), is page * P + place in it."""
        self.keys[layer].flatten(0, 1).index_copy_(0, slots, keys)
        self.values[layer].flatten(0, 1).index_copy_(0, slots, values)
