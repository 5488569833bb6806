"""Who asks: from the API key of a request to its tenant. Transport-neutral: gRPC and HTTP hand in the same string.

The key file is read again when it changes. A new one that is broken changes nothing: the old one counts, and the log
says what is wrong.
"""

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gateway.settings import GatewaySettings
from gateway.tenancy.key_file import KeyFile, Limits, key_digest
from internvl.errors import KeyMissing, KeyUnknown, TenantSuspended

log = logging.getLogger(__name__)
_Signature = tuple[int, int, int]
"""Of a file: inode, size, time of the last change."""


@dataclass(frozen=True)
class Tenant:
    """Whose a request is. The name scopes media ids, embeddings and reused keys and values."""

    name: str
    limits: Limits


class Tenants:
    """All of them."""

    def __init__(self, path: Path | None, *, default: str) -> None:
        """Without a file everyone is the default tenant, key or no key. Raises ValueError and OSError."""
        self._path = path
        self._default = Tenant(default, Limits())
        self._signature = None if path is None else _signature(path)
        self._file = None if path is None else KeyFile.read(path)
        self._log_what_counts()

    @classmethod
    def from_settings(cls, settings: GatewaySettings) -> Self:
        return cls(settings.key_file, default=settings.default_tenant)

    def identify(self, authorization: str | None) -> Tenant:
        """The tenant of an `authorization` header or metadata entry, `Bearer KEY`; None: there is none.

        Raises KeyMissing, KeyUnknown, TenantSuspended.
        """
        if self._file is None:
            return self._default
        scheme, _, key = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise KeyMissing("an API key is needed: authorization: Bearer KEY")
        name = self._file.keys.get(key_digest(key.strip()))
        if name is None:
            raise KeyUnknown("the API key is not known here")
        limits = self._file.tenants[name]
        if limits.suspended:
            raise TenantSuspended("the tenant of this API key is suspended")
        return Tenant(name, limits)

    async def watch(self, check_seconds: float) -> None:
        """Reads the file again whenever it has changed. Runs until cancelled."""
        while True:
            await asyncio.sleep(check_seconds)
            await asyncio.to_thread(self.reread)

    def reread(self) -> None:
        """Takes over a file that has changed, if it is whole."""
        if self._path is None:
            return
        try:
            signature = _signature(self._path)
            if signature == self._signature:
                return
            self._signature = signature
            self._file = KeyFile.read(self._path)
        except (ValueError, OSError) as error:
            self._complain(error)
        else:
            self._log_what_counts()

    def _complain(self, error: ValueError | OSError) -> None:
        """Once for each state of the file: it is looked at every second."""
        cause = error.strerror if isinstance(error, OSError) else str(error)
        if isinstance(error, OSError):
            missing, self._signature = self._signature is None, None
            if missing:
                return
        log.error("the key file is not usable: the one before still counts", extra={"cause": cause})

    def _log_what_counts(self) -> None:
        if self._file is None:
            log.warning("no key file: whoever reaches this port may use it", extra={"tenant": self._default.name})
        else:
            counts = {"tenant_count": len(self._file.tenants), "key_count": len(self._file.keys)}
            log.info("the key file counts", extra=counts)


def _signature(path: Path) -> _Signature:
    found = path.stat()  # of what a link points to: that is how Kubernetes changes a mounted secret
    return found.st_ino, found.st_size, found.st_mtime_ns
