"""Certificates for tests."""

from pathlib import Path

import trustme

from internvl.transport.tls import TlsFiles


def write_certificate(folder: Path, authority: trustme.CA, name: str = "127.0.0.1") -> TlsFiles:
    """Certificate, key and authority of one party in `folder`; replaces what is there."""
    folder.mkdir(exist_ok=True)
    issued = authority.issue_cert(name)
    (folder / "certificate.pem").write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(folder / "key.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return TlsFiles(folder / "certificate.pem", folder / "key.pem", folder / "ca.pem")
