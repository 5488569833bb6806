"""Certificates for servers and channels, from PEM files that are checked before anything is served or called.

A server reads its files again at the first handshake after they changed, so that a certificate is renewed without a
restart. New ones that are broken change nothing: the old ones count, and the log says what is wrong. An open channel
keeps what it was opened with.
"""

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

import grpc

from internvl.transport.tls import Signature, TlsFiles, channel_credentials, pem_bytes

log = logging.getLogger(__name__)
Made = TypeVar("Made")


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials of a server; with an authority, clients must show a certificate of it. Raises ValueError."""
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
    """A value made from files that may be replaced."""

    def __init__(self, files: TlsFiles, make: Callable[[TlsFiles], Made]) -> None:
        """Raises ValueError."""
        files.check()
        self._files = files
        self._make = make
        self._signature: Signature | None = files.signature()
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
        [(files.key.read_bytes(), files.certificate.read_bytes())], root_certificates=pem_bytes(files.authority)
    )
