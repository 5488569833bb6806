"""TLS and mTLS over real connections: who is let in, renewed certificates, and what is said about unusable files."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from internvl.cli import health_check
from internvl.transport.tls import TlsFiles
from shared.serving.rpc import Server
from shared.serving.tls import PeerTls
from tests.support.certificates import write_certificate
from tests.support.fakes import LoopbackSettings


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@asynccontextmanager
async def serving(files: TlsFiles, *, wants_clients: bool) -> AsyncIterator[str]:
    settings = LoopbackSettings(
        tls_certificate=files.certificate,
        tls_key=files.key,
        tls_client_ca=files.authority if wants_clients else None,
    )
    server = Server(settings)
    await server.set_serving([], serving=True)
    await server.grpc.start()
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        await server.grpc.stop(0)


async def is_serving(address: str, files: TlsFiles | None, name: str = "") -> bool:
    """What a health check on a connection of its own says; False when there is no connection."""
    return await health_check.is_serving(address, "", files, server_name=name)


async def test_tls_is_for_whoever_trusts_the_authority(tmp_path: Path, authority: trustme.CA) -> None:
    files = write_certificate(tmp_path / "server", authority)
    stranger = write_certificate(tmp_path / "stranger", trustme.CA())
    async with serving(files, wants_clients=False) as address:
        assert await is_serving(address, TlsFiles(authority=files.authority))
        assert not await is_serving(address, TlsFiles(authority=stranger.authority))
        assert not await is_serving(address, None), "in the clear"


async def test_mtls_wants_a_certificate_of_the_authority(tmp_path: Path, authority: trustme.CA) -> None:
    files = write_certificate(tmp_path / "server", authority)
    client = write_certificate(tmp_path / "client", authority, "gateway")
    stranger = write_certificate(tmp_path / "stranger", trustme.CA())
    async with serving(files, wants_clients=True) as address:
        assert await is_serving(address, client)
        assert not await is_serving(address, TlsFiles(authority=files.authority))
        assert not await is_serving(address, TlsFiles(stranger.certificate, stranger.key, files.authority))


async def test_the_name_in_the_certificate_is_checked(tmp_path: Path, authority: trustme.CA) -> None:
    files = write_certificate(tmp_path / "server", authority, "vision-headless")
    trust = TlsFiles(authority=files.authority)
    async with serving(files, wants_clients=False) as address:
        assert not await is_serving(address, trust), "the address is not in the certificate"
        assert await is_serving(address, trust, "vision-headless")
        assert not await is_serving(address, trust, "llm-headless")


async def test_a_renewed_certificate_counts_without_a_restart(
    tmp_path: Path, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    files, later = write_certificate(tmp_path / "server", authority), trustme.CA()
    old = write_certificate(tmp_path / "old", authority)
    async with serving(files, wants_clients=True) as address:
        assert await is_serving(address, old)
        new = write_certificate(tmp_path / "server", later)
        assert await is_serving(address, new)
        assert not await is_serving(address, old), "its authority is no longer the clients'"
        await asyncio.to_thread((tmp_path / "server" / "key.pem").write_text, "broken")
        good = write_certificate(tmp_path / "new", later)
        assert await is_serving(address, good), "the previous certificate still applies"
        assert await is_serving(address, good)
    broken = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(broken) == 1, "said once, not at each handshake"


async def test_a_channel_that_is_opened_later_shows_the_renewed_certificate(
    tmp_path: Path, authority: trustme.CA
) -> None:
    server, own = write_certificate(tmp_path / "server", authority), write_certificate(tmp_path / "own", trustme.CA())
    tls = PeerTls(TlsFiles(own.certificate, own.key, server.authority))
    before = tls.credentials()
    assert tls.credentials() is before
    write_certificate(tmp_path / "own", authority)
    assert tls.credentials() is not before
    async with serving(server, wants_clients=True) as address:
        assert await is_serving(address, TlsFiles(own.certificate, own.key, server.authority))


def test_files_that_cannot_work_are_named(tmp_path: Path, authority: trustme.CA) -> None:
    files, other = write_certificate(tmp_path / "a", authority), write_certificate(tmp_path / "b", authority)
    missing = tmp_path / "missing.pem"
    empty = tmp_path / "empty.pem"
    empty.touch()
    for wrong, complaint in (
        (TlsFiles(missing, files.key), f"there is no file {missing}"),
        (TlsFiles(files.certificate, missing), f"there is no file {missing}"),
        (TlsFiles(tmp_path, files.key), f"there is no file {tmp_path}"),
        (TlsFiles(files.certificate, other.key), "are not a certificate chain and its"),
        (TlsFiles(files.key, files.certificate), "are not a certificate chain and its"),
        (TlsFiles(empty, files.key), "are not a certificate chain and its"),
        (TlsFiles(authority=empty), f"{empty} holds no certificate"),
        (TlsFiles(authority=files.key), "holds no certificate"),
    ):
        with pytest.raises(ValueError, match="TLS: ") as caught:
            wrong.check()
        assert complaint in str(caught.value)


async def test_a_server_with_unusable_files_does_not_start(tmp_path: Path, authority: trustme.CA) -> None:
    files, other = write_certificate(tmp_path / "a", authority), write_certificate(tmp_path / "b", authority)
    with pytest.raises(ValueError, match="certificate chain"):
        Server(LoopbackSettings(tls_certificate=files.certificate, tls_key=other.key))
