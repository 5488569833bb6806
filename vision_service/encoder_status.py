"""Load of an encoder, as `GetStatus` and the metrics report it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EncoderStatus:
    """Work under way."""

    queued_tile_count: int
    decoding_count: int
    pending_write_bytes: int
    is_degraded: bool
    batch_age_seconds: float = 0.0
    """Age of the oldest batch on a device; 0 when there is none."""
