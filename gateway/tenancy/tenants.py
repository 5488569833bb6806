"""API key of a request to its tenant. Transport-neutral: gRPC and HTTP hand in the same string.

The key file is reloaded when it changes. A new one that is broken is rejected, and the log says why.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gateway.settings import GatewaySettings
from gateway.tenancy.key_file import KeyFile, Limits, key_digest
from internvl.errors import KeyMissing, KeyUnknown, TenantSuspended
from shared.serving.file_watch import FileWatch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tenant:
    """The tenant that a request belongs to. Its name scopes media ids, embeddings and reused keys and values."""

    name: str
    limits: Limits


def one_authorization(entries: Sequence[str]) -> str | None:
    """The only `authorization` of a request. Raises KeyUnknown for several: a proxy may have meant another one."""
    if len(entries) > 1:
        raise KeyUnknown(f"{len(entries)} authorization entries; one is allowed")
    return entries[0] if entries else None


class Tenants:
    """All tenants."""

    def __init__(self, path: Path | None, *, default: str) -> None:
        """Without a file everyone is the default tenant, key or no key. Raises ValueError and OSError."""
        self._default = Tenant(default, Limits())
        self._watch = None if path is None else FileWatch("key file", [path], lambda: KeyFile.read(path))
        if self._watch is None:
            log.warning("no key file: every caller that reaches this port may use it", extra={"tenant": default})
        else:
            self._log_loaded(self._watch.value)

    @classmethod
    def from_settings(cls, settings: GatewaySettings) -> Self:
        return cls(settings.key_file, default=settings.default_tenant)

    def identify(self, authorization: str | None) -> Tenant:
        """The tenant of an `authorization` header or metadata entry, `Bearer KEY`; None: there is none.

        Raises KeyMissing, KeyUnknown, TenantSuspended.
        """
        if self._watch is None:
            return self._default
        file = self._watch.value
        scheme, _, key = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise KeyMissing("an API key is needed: authorization: Bearer KEY")
        name = file.keys.get(key_digest(key.strip()))
        if name is None:
            raise KeyUnknown("the API key is not known here")
        limits = file.tenants[name]
        if limits.suspended:
            raise TenantSuspended("the tenant of this API key is suspended")
        return Tenant(name, limits)

    async def watch(self, check_seconds: float) -> None:
        """Reads the file again whenever it has changed. Runs until cancelled."""
        while True:
            await asyncio.sleep(check_seconds)
            await asyncio.to_thread(self.reread)

    def reread(self) -> None:
        """Reloads a file that has changed."""
        if self._watch is not None and self._watch.reread():
            self._log_loaded(self._watch.value)

    def _log_loaded(self, file: KeyFile) -> None:
        log.info("key file loaded", extra={"tenant_count": len(file.tenants), "key_count": len(file.keys)})
