"""Load of an encoder, as `GetStatus` and the metrics report it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EncoderStatus:
    """Work under way."""

    queued_tile_count: int
    decoding_count: int
    pending_write_bytes: int
    is_degraded: bool
