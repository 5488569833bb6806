"""Certificates for servers and channels, from PEM files that are checked before anything is served or called.

A server reads its files again at the first handshake after they changed, so that a certificate is renewed without a
restart. New files that are broken are rejected, and the log says why. An open channel keeps what it was opened with.
"""

import grpc

from internvl.transport.tls import TlsFiles, channel_credentials, pem_bytes
from shared.serving.file_watch import FileWatch

NAME = "TLS files"


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials of a server; with an authority, clients must show a certificate of it. Raises ValueError."""
    watch = FileWatch(NAME, files.paths, lambda: _configuration(files))

    def changed() -> grpc.ServerCertificateConfiguration | None:
        """gRPC asks at each handshake."""
        return watch.value if watch.reread() else None

    credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
        watch.value,
        changed,  # type: ignore[arg-type] # the stubs lack None, which gRPC's own words allow
        require_client_authentication=files.authority is not None,
    )
    return credentials


class PeerTls:
    """Credentials of a service that calls others: each channel is opened with what the files hold then."""

    def __init__(self, files: TlsFiles, name: str = "") -> None:
        """`name` must stand in the others' certificates; "": the host that is called. Raises ValueError."""
        self.name = name
        self._watch = FileWatch(NAME, files.paths, lambda: channel_credentials(files))

    def credentials(self) -> grpc.ChannelCredentials:
        """For a channel that is opened now."""
        self._watch.reread()
        return self._watch.value


def _configuration(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    files.check()
    assert files.key is not None
    assert files.certificate is not None
    return grpc.ssl_server_certificate_configuration(
        [(files.key.read_bytes(), files.certificate.read_bytes())], root_certificates=pem_bytes(files.authority)
    )
