"""What an encoder has under way: what `GetStatus` and the metrics report."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EncoderStatus:
    """What is under way."""

    queued_tile_count: int
    decoding_count: int
    pending_write_bytes: int
    is_degraded: bool
