"""How large a request may be."""

from dataclasses import dataclass

from gateway.settings import GatewaySettings


@dataclass(frozen=True)
class RequestLimits:
    """Counts and bytes of one request."""

    message_count: int
    part_count: int
    """Parts of one message."""
    media_count: int
    inline_media_bytes: int

    @classmethod
    def from_settings(cls, settings: GatewaySettings) -> "RequestLimits":
        return cls(
            message_count=settings.max_messages,
            part_count=settings.max_message_parts,
            media_count=settings.max_media_per_request,
            inline_media_bytes=settings.max_inline_media_bytes,
        )
