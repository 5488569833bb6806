"""Certificates for servers and channels, from PEM files that are checked before anything is served or called.

A server reads its files again at the first handshake after they changed, so that a certificate is renewed without a
restart. New ones that are broken change nothing: the old ones count, and the log says what is wrong. An open channel
keeps what it was opened with.
"""

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import grpc

log = logging.getLogger(__name__)
Made = TypeVar("Made")
_Signature = tuple[tuple[int, int, int], ...]
"""Of files: inode, size, time of the last change."""


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of one side of a connection."""

    certificate: Path | None = None
    """Own certificate chain; None: a client that shows none."""
    key: Path | None = None
    """Its private key."""
    authority: Path | None = None
    """Who must have signed the other side. None: for a server, clients show nothing; for a client, the system's."""

    def check(self) -> None:
        """Raises ValueError that names the file at fault."""
        for path in self._paths:
            if not path.is_file():
                raise ValueError(f"TLS: there is no file {path}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.certificate is not None:
            try:
                context.load_cert_chain(self.certificate, self.key, password=_no_password)
            except (ssl.SSLError, ValueError) as error:
                raise ValueError(
                    f"TLS: {self.certificate} and {self.key} are not a certificate chain and its unencrypted key in PEM"
                ) from error
            except OSError as error:
                raise ValueError(f"TLS: {self.certificate} or {self.key}: {error.strerror}") from error
        if self.authority is not None:
            try:
                context.load_verify_locations(self.authority)
            except (ssl.SSLError, OSError) as error:
                raise ValueError(f"TLS: {self.authority} holds no certificate in PEM") from error

    def signature(self) -> _Signature:
        """Differs when a file has changed. Raises OSError."""
        found = [path.stat() for path in self._paths]
        return tuple((each.st_ino, each.st_size, each.st_mtime_ns) for each in found)

    @property
    def _paths(self) -> list[Path]:
        return [path for path in (self.certificate, self.key, self.authority) if path is not None]


def channel_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    """Of a client. Raises ValueError."""
    files.check()
    return grpc.ssl_channel_credentials(_read(files.authority), _read(files.key), _read(files.certificate))


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Of a server; with an authority, clients must show a certificate of it. Raises ValueError."""
    watched = _Watched(files, _configuration)
    credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
        watched.value,
        watched.changed,  # type: ignore[arg-type] # the stubs lack None, which gRPC's own words allow
        require_client_authentication=files.authority is not None,
    )
    return credentials


class PeerTls:
    """How a service calls others: each channel is opened with what the files hold then."""

    def __init__(self, files: TlsFiles, name: str = "") -> None:
        """`name` must stand in the others' certificates; "": the host that is called. Raises ValueError."""
        self.name = name
        self._watched = _Watched(files, channel_credentials)

    def credentials(self) -> grpc.ChannelCredentials:
        """For a channel that is opened now."""
        self._watched.reread()
        return self._watched.value


class _Watched(Generic[Made]):
    """What is made of files that may be replaced."""

    def __init__(self, files: TlsFiles, make: Callable[[TlsFiles], Made]) -> None:
        """Raises ValueError."""
        files.check()
        self._files = files
        self._make = make
        self._signature: _Signature | None = files.signature()
        self.value = make(files)

    def changed(self) -> Made | None:
        """The new value, or None when there is none. gRPC asks at each handshake."""
        return self.value if self.reread() else None

    def reread(self) -> bool:
        """Whether there is a new value. What is broken changes nothing, and is complained of once."""
        try:
            signature = self._files.signature()
            if signature == self._signature:
                return False
            self._signature = signature
            self._files.check()
            self.value = self._make(self._files)
        except (ValueError, OSError) as error:
            cause = str(error) if isinstance(error, ValueError) else error.strerror
            log.error("the TLS files are not usable: the ones before still count", extra={"cause": cause})
            return False
        log.info("the TLS files were read again")
        return True


def _configuration(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    assert files.key is not None
    assert files.certificate is not None
    return grpc.ssl_server_certificate_configuration(
        [(files.key.read_bytes(), files.certificate.read_bytes())], root_certificates=_read(files.authority)
    )


def _read(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _no_password() -> str:
    """An encrypted key is refused; OpenSSL would ask at the terminal."""
    return ""
