"""Settings of the gateway: `internvl-gateway --help`, or INTERNVL_GATEWAY_... in the environment."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.serving.settings import MEBIBYTE, PeerSettings, ServiceSettings


class GatewaySettings(PeerSettings, ServiceSettings):
    """Settings of the gateway."""

    model_config = SettingsConfigDict(env_prefix="INTERNVL_GATEWAY_")
    service: ClassVar[str] = "gateway"

    port: int = 50050
    """Port to listen on; 0 lets the system choose."""
    vision_address: str = "127.0.0.1:50051"
    """host:port of each vision replica, separated by commas, or dns:///name:port of a headless service."""
    llm_address: str = "127.0.0.1:50052"
    """host:port of each LLM replica, separated by commas, or dns:///name:port of a headless service."""
    backend_check_seconds: float = 1.0
    """How often each replica is asked whether it serves, and which model."""
    backend_check_timeout_seconds: float = Field(default=5.0, gt=0)
    """How long it may take to answer. Then it gets no new calls, and those that bring nothing meanwhile move."""
    backend_stall_seconds: float = Field(default=10.0, gt=0)
    """How long one step of a replica's device may take, or twice as long as the longest that ended. Then the same."""
    resolve_seconds: float = 5.0
    """How often a dns:/// name is looked up."""
    retry_ratio: float = 0.2
    """Retries to a service as a share of the requests to it, in the long run."""
    retry_burst: int = 256
    """Retries at once beyond that: streams that may move when a replica dies."""
    key_file: Path | None = None
    """TOML file of tenants, their limits and their API keys (docs/security.md); None: no keys, one tenant."""
    key_file_check_seconds: float = 1.0
    """How often the key file is looked at; it is read again when it has changed."""
    default_tenant: str = "default"
    """Tenant that requests belong to when no key file is set."""
    max_concurrent_requests: int = 256
    """Replies at a time; beyond that, RESOURCE_EXHAUSTED."""
    max_messages: int = 512
    """Messages of a request."""
    max_message_parts: int = 128
    """Texts, images and videos of one message."""
    max_media_per_request: int = 64
    """Images and videos of a request."""
    max_inline_media_bytes: int = 48 * MEBIBYTE
    """Bytes of all images and videos that a request carries itself; below max_message_bytes."""
    max_upload_bytes: int = 256 * MEBIBYTE
    """Bytes of one uploaded file."""
    media_hosts: str = ""
    """Hosts that images and videos may be fetched from, separated by commas: images.example.com, *.example.com,
    http://store.internal:9000 (docs/security.md). Empty: addresses are refused."""
    media_fetch_seconds: float = 10.0
    """How long one file may take, redirects included."""
    media_private_addresses: bool = False
    """Whether these hosts may have addresses of this network, and not only public ones."""
    http_port: int | None = None
    """Port of the OpenAI-compatible HTTP endpoint, on the same host; unset: none; 0 lets the system choose."""
    http_metrics: bool = False
    """Whether the HTTP port serves /metrics as well; it needs no key there."""
    http_origins: str = ""
    """Origins whose pages may call the HTTP port (CORS), separated by commas, or *; empty: none."""
    http_keep_alive_seconds: int = 120
    """How long an idle HTTP connection is kept."""
    http_deadline_seconds: float = 600.0
    """How long a reply over HTTP may take: HTTP has no deadlines of its own."""
    max_http_body_bytes: int = 64 * MEBIBYTE
    """Bytes of one HTTP request; an image in it is a third larger than its file."""
