"""Certificates of one side of a connection, from PEM files that are checked before anything is served or called."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of one side of a connection."""

    certificate: Path | None = None
    """Own certificate chain; None: a client that shows none."""
    key: Path | None = None
    """Its private key."""
    authority: Path | None = None
    """Authority of the other side's certificate. None: for a server, clients show none; for a client, the system's."""

    def check(self) -> None:
        """Raises ValueError that names the file at fault."""
        for path in self.paths:
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

    @property
    def paths(self) -> list[Path]:
        """Those that are given."""
        return [path for path in (self.certificate, self.key, self.authority) if path is not None]


def channel_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    """Credentials of a client. Raises ValueError."""
    files.check()
    return grpc.ssl_channel_credentials(pem_bytes(files.authority), pem_bytes(files.key), pem_bytes(files.certificate))


def pem_bytes(path: Path | None) -> bytes | None:
    """Content of a file, if there is one."""
    return None if path is None else path.read_bytes()


def _no_password() -> str:
    """An encrypted key is refused; OpenSSL would ask at the terminal."""
    return ""
