"""The file an operator keeps: tenants, their limits, and the digests of their API keys.

    [tenants.acme]
    concurrent_requests = 32
    requests_per_minute = 600
    tokens_per_minute = 200_000
    bytes_in_flight = 268_435_456

    [keys]
    9f86d081884c7d65...0a08 = "acme"

Keys themselves are in no file: a key is 256 random bits, so its SHA-256 tells nothing of it and needs no salt. This
module reads text and knows no clock, no watching and no transport.
"""

import hashlib
import re
import secrets
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

KEY_PREFIX = "ivl_"
"""Beginning of every key, so that scanners of source code find one that was committed."""
_KEY_BYTES = 32
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
TenantName = Annotated[str, StringConstraints(pattern=f"^{_NAME}$")]
_Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
_Limit = Annotated[int, Field(ge=1, le=1 << 62)] | None


class Limits(BaseModel):
    """Limits of one tenant; None = no limit of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    concurrent_requests: _Limit = None
    requests_per_minute: _Limit = None
    tokens_per_minute: _Limit = None
    """Tokens of prompts and replies."""
    bytes_in_flight: _Limit = None
    """Bytes of all requests and uploads of the tenant in flight."""
    suspended: bool = False
    """Its keys are known, and refused."""


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    tenants: dict[TenantName, Limits]
    keys: dict[_Digest, TenantName] = Field(default_factory=dict)


@dataclass(frozen=True)
class KeyFile:
    """A file, read and checked."""

    tenants: dict[str, Limits]
    keys: dict[str, str]
    """Digest of a key -> tenant."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises ValueError that says what is wrong and where, and OSError."""
        try:
            return cls.parse(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"key file {path}: {error}") from error

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError. Never repeats the file's content: a key may stand there by mistake."""
        try:
            content = _Content.model_validate(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            place = re.search(r"\((at .*)\)$", str(error))
            raise ValueError(f"not TOML {place.group(1) if place else ''}".rstrip()) from None
        except ValidationError as error:
            raise ValueError("; ".join(_complaint(each["loc"], each["msg"]) for each in error.errors())) from None
        strangers = sorted(set(content.keys.values()) - set(content.tenants))
        if strangers:
            raise ValueError(f"keys of tenants that are not in the file: {', '.join(strangers)}")
        return cls(content.tenants, content.keys)


def new_key() -> str:
    """A new key."""
    return KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def key_digest(key: str) -> str:
    """Digest that the file holds in place of the key."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def check_tenant_name(name: str) -> None:
    """Raises ValueError."""
    if not re.fullmatch(_NAME, name):
        raise ValueError(
            "a tenant's name is 1 to 64 letters, digits, '.', '_' and '-', and begins with a letter or digit"
        )


def _complaint(location: tuple[int | str, ...], message: str) -> str:
    place = [str(part) for part in location if part != "[key]"]
    if place[:1] == ["keys"]:
        return f"keys: each is the 64 hexadecimal digits of a digest, and names a tenant ({message})"
    return f"{'.'.join(place)}: {message}"
