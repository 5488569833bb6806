"""Where this package's settings are read from the environment and the command line, and nowhere else.

Each service derives one frozen class from ServiceSettings, with its own variable prefix (INTERNVL_VISION_,
INTERNVL_LLM_, INTERNVL_GATEWAY_). A variable with a service's prefix that its class does not know, or an INTERNVL_
variable of no known prefix, is refused: a typing mistake must not silently mean the default.
"""

import os
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict

from internvl.transport.channel import MIN_PING_SECONDS, Keepalive
from internvl.transport.tls import TlsFiles
from shared.serving.tls import PeerTls
from shared.store.redis_url import RedisUrl

PREFIXES = ("INTERNVL_VISION_", "INTERNVL_LLM_", "INTERNVL_GATEWAY_", "INTERNVL_CLI_")
MEBIBYTE = 1 << 20


class ServiceSettings(BaseSettings):
    """Settings of every service."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, cli_kebab_case=True, hide_input_in_errors=True
    )
    service: ClassVar[str]
    """Name in logs."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 in a pod."""
    port: int
    """Port to listen on; 0 lets the system choose."""
    metrics_port: int | None = None
    """HTTP port of /metrics, for Prometheus, on the same address; unset: none; 0 lets the system choose."""
    otlp_endpoint: str = ""
    """Where traces are sent by OTLP over gRPC, such as http://collector:4317; empty: none are made."""
    trace_ratio: float = Field(default=1.0, ge=0, le=1)
    """Share of requests that are traced, of those whose caller has not decided."""
    log_level: str = "info"
    """debug, info, warning or error."""
    max_message_bytes: int = 64 * MEBIBYTE
    """Largest gRPC message, both ways; larger media go through chunked uploads."""
    default_deadline_seconds: float = Field(default=600.0, gt=0)
    """How long a gRPC call may take that names no deadline."""
    keepalive_seconds: float = Field(default=8.0, ge=MIN_PING_SECONDS)
    """Silence after which the peer of a gRPC connection is pinged, caller or service; unlike TCP's own keepalive."""
    keepalive_timeout_seconds: float = Field(default=4.0, gt=0)
    """How long it may take to answer; then the connection is closed, and its calls fail or end."""
    drain_seconds: float = 30.0
    """How long requests in flight may take after SIGTERM."""
    tls_certificate: Path | None = None
    """PEM file of this server's certificate chain; with tls_key switches TLS on."""
    tls_key: Path | None = None
    """PEM file of its private key."""
    tls_client_ca: Path | None = None
    """PEM file of the authority clients must be signed by (mTLS)."""

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        return self

    @property
    def keepalive(self) -> Keepalive:
        """Pings of connections from callers and to other services."""
        return Keepalive(self.keepalive_seconds, self.keepalive_timeout_seconds)

    @property
    def tls_files(self) -> TlsFiles | None:
        """TLS files of this server; None: in the clear."""
        if self.tls_certificate is None:
            return None
        return TlsFiles(self.tls_certificate, self.tls_key, self.tls_client_ca)

    @classmethod
    def from_command_line(cls, arguments: list[str] | None = None) -> Self:
        """Flags over environment over defaults. Exits with a usage message on an unknown flag.

        Raises ValueError that names each setting whose value is wrong.
        """
        cls.refuse_unknown_variables()
        source = CliSettingsSource[Any](
            cls, cli_parse_args=arguments if arguments is not None else True, cli_prog_name=f"internvl-{cls.service}"
        )
        try:
            return cls(_cli_settings_source=source)  # type: ignore[call-arg]
        except ValidationError as error:
            raise ValueError(_complaints(error)) from None

    @classmethod
    def refuse_unknown_variables(cls) -> None:
        """Raises ValueError that names unknown variables."""
        own = str(cls.model_config["env_prefix"])
        known = {f"{own}{name.upper()}" for name in cls.model_fields}
        strangers = [
            name
            for name in sorted(os.environ)
            if (name.startswith(own) and name not in known)
            or (name.startswith("INTERNVL_") and not name.startswith(PREFIXES))
        ]
        if strangers:
            raise ValueError(f"unknown environment variables: {', '.join(strangers)}")


class PeerSettings(BaseSettings):
    """Settings of a service that calls others."""

    peer_ca: Path | None = None
    """PEM file of the authority that signed the services this one calls; switches TLS on for these calls."""
    peer_certificate: Path | None = None
    """PEM file of the certificate chain shown to them (mTLS)."""
    peer_key: Path | None = None
    """PEM file of its private key."""
    peer_name: str = ""
    """Name that must stand in their certificates; default: the host of their address, or the name of dns:///."""

    @model_validator(mode="after")
    def _peer_tls_is_whole(self) -> Self:
        if (self.peer_certificate is None) != (self.peer_key is None):
            raise ValueError("peer_certificate and peer_key go together")
        if self.peer_ca is None and (self.peer_certificate is not None or self.peer_name):
            raise ValueError("peer_certificate, peer_key and peer_name need peer_ca")
        return self

    def peer_tls(self) -> PeerTls | None:
        """For calls to other services; None: in the clear. Raises ValueError."""
        if self.peer_ca is None:
            return None
        return PeerTls(TlsFiles(self.peer_certificate, self.peer_key, self.peer_ca), self.peer_name)


class ModelSettings(ServiceSettings):
    """Settings of both model services."""

    model: str
    """Folder of an InternVL3 checkpoint, or its name on the model hub."""
    model_name: str = ""
    """Name clients see; default: the last part of `model`."""
    revision: str = ""
    """Revision of the checkpoint; for a hub name also the one downloaded. Part of the embedding key."""
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda, cuda:1 ..."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """bfloat16, float16, float32 or auto: bfloat16 on CUDA; on a CPU float32 for the vision service, and for the LLM
    service bfloat16 where that is fast."""
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    """Where embeddings and media are kept; user and password may stand before each host (user:password@).

    redis://HOST:6379/0 or unix:///SOCKET?db=0; redis+sentinel://HOST:26379,HOST:26379/SERVICE/0 (sentinel_username and
    sentinel_password as options); redis+cluster://HOST:6379,HOST:6379; all but unix over TLS as rediss..., with options
    ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_cert_reqs, ssl_check_hostname: rediss://HOST?ssl_ca_certs=/ca.pem.
    """

    @field_validator("redis_url")
    @classmethod
    def _redis_url_is_one(cls, url: SecretStr) -> SecretStr:
        RedisUrl.parse(url.get_secret_value())
        return url

    def device_name(self, *, cuda: bool) -> str:
        """The device to use, where `cuda` says whether there is one. Raises ValueError for one that is not there."""
        return device_present(self.device, cuda=cuda)

    def dtype_name(self, device_type: str) -> str:
        """The dtype to compute in on a device of this type."""
        return self.dtype if self.dtype != "auto" else "bfloat16" if device_type == "cuda" else "float32"

    @property
    def public_model_name(self) -> str:
        return self.model_name or Path(self.model).name


def device_present(device: str, *, cuda: bool) -> str:
    """The device that a setting names, where `cuda` says whether there is one. Raises ValueError if it is not there."""
    if device.startswith("cuda") and not cuda:
        raise ValueError(f"device {device}: PyTorch sees no CUDA device (none is there, or it is built for CPUs)")
    return device if device != "auto" else "cuda" if cuda else "cpu"


def _complaints(error: ValidationError) -> str:
    """Settings and what is wrong with each, in one line and without the values, which may be secrets."""
    return "; ".join(
        ": ".join(filter(None, [".".join(map(str, each["loc"])), each["msg"].removeprefix("Value error, ")]))
        for each in error.errors(include_url=False, include_input=False)
    )
