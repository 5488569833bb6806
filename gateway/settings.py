"""What an operator can set: `internvl-gateway --help`, or INTERNVL_GATEWAY_... in the environment."""

from typing import ClassVar

from pydantic_settings import SettingsConfigDict

from shared.settings import MEBIBYTE, ServiceSettings


class GatewaySettings(ServiceSettings):
    """Settings of the gateway."""

    model_config = SettingsConfigDict(env_prefix="INTERNVL_GATEWAY_")
    service: ClassVar[str] = "gateway"

    port: int = 50050
    """Port to listen on; 0 lets the system choose."""
    vision_address: str = "127.0.0.1:50051"
    """host:port of the vision service."""
    llm_address: str = "127.0.0.1:50052"
    """host:port of the LLM service."""
    backend_check_seconds: float = 1.0
    """How often both are asked which model they serve."""
    default_tenant: str = "default"
    """Whose requests are that come without a key."""
    max_concurrent_requests: int = 256
    """Replies at a time; beyond that, RESOURCE_EXHAUSTED."""
    max_messages: int = 512
    """Messages of a request."""
    max_message_parts: int = 128
    """Texts, pictures and clips of one message."""
    max_media_per_request: int = 64
    """Pictures and clips of a request."""
    max_inline_media_bytes: int = 48 * MEBIBYTE
    """Bytes of all pictures and clips that a request carries itself; below max_message_bytes."""
    max_upload_bytes: int = 256 * MEBIBYTE
    """Bytes of one uploaded file."""
