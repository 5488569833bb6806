"""Who asks, and that the key file is read again when it changes and only when it is whole."""

import asyncio
import logging
from pathlib import Path

import pytest

from gateway.tenancy.key_file import key_digest
from gateway.tenancy.tenants import Tenants
from internvl.errors import KeyMissing, KeyUnknown, TenantSuspended


def content(*keys: str, extra: str = "") -> str:
    lines = "".join(f'{key_digest(key)} = "a"\n' for key in keys)
    return f'[tenants.a]\n{extra}\n[tenants.b]\nsuspended = true\n[keys]\n{key_digest("of-b")} = "b"\n{lines}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "keys.toml"
    file.write_text(content("first"))
    return file


def replace(path: Path, text: str) -> None:
    """As a deployment does it: at once."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def test_a_key_is_its_tenants(path: Path) -> None:
    tenants = Tenants(path, default="default")
    assert tenants.identify("Bearer first").name == "a"
    assert tenants.identify("bearer   first ").name == "a"


@pytest.mark.parametrize("header", [None, "", "first", "Bearer", "Bearer ", "Basic first"])
def test_without_a_key_nobody_is_known(path: Path, header: str | None) -> None:
    with pytest.raises(KeyMissing):
        Tenants(path, default="default").identify(header)


@pytest.mark.parametrize("key", ["second", key_digest("first"), "first\n", "FIRST", "\udc80"])
def test_a_key_that_is_nobodys(path: Path, key: str) -> None:
    tenants = Tenants(path, default="default")
    if key.strip() == "first":
        assert tenants.identify(f"Bearer {key}").name == "a"
        return
    with pytest.raises(KeyUnknown):
        tenants.identify(f"Bearer {key}")


def test_a_suspended_tenant_is_told_so(path: Path) -> None:
    with pytest.raises(TenantSuspended):
        Tenants(path, default="default").identify("Bearer of-b")


def test_without_a_file_everyone_is_the_default_tenant(caplog: pytest.LogCaptureFixture) -> None:
    tenants = Tenants(None, default="default")
    assert tenants.identify(None).name == tenants.identify("Bearer any").name == "default"
    (record,) = caplog.records
    assert (record.levelno, record.message[:11]) == (logging.WARNING, "no key file")


async def test_a_changed_file_applies_without_a_restart(path: Path) -> None:
    tenants = Tenants(path, default="default")
    watch = asyncio.create_task(tenants.watch(0.01))
    replace(path, content("second", extra="requests_per_minute = 7"))
    async with asyncio.timeout(5):
        while True:
            try:
                found = tenants.identify("Bearer second")
                break
            except KeyUnknown:
                await asyncio.sleep(0.01)
    assert found.limits.requests_per_minute == 7
    with pytest.raises(KeyUnknown):
        tenants.identify("Bearer first")
    watch.cancel()


@pytest.mark.parametrize("broken", ["[tenants", None])
def test_a_broken_file_leaves_the_old_one_and_is_reported_once(
    path: Path, broken: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    tenants = Tenants(path, default="default")
    if broken is None:
        path.unlink()
    else:
        replace(path, broken)
    for _ in range(3):
        tenants.reread()
    assert tenants.identify("Bearer first").name == "a"
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    replace(path, content("second"))
    tenants.reread()
    assert tenants.identify("Bearer second").name == "a"


def test_a_mounted_secret_changes_by_its_link(tmp_path: Path) -> None:
    for name, key in (("one", "first"), ("two", "second")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys.toml").write_text(content(key))
    link = tmp_path / "data"
    link.symlink_to("one")
    tenants = Tenants(link / "keys.toml", default="default")
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").replace(link)
    tenants.reread()
    assert tenants.identify("Bearer second").name == "a"


def test_a_file_that_is_broken_from_the_start_is_an_error(path: Path) -> None:
    path.write_text("[tenants")
    with pytest.raises(ValueError, match="not TOML"):
        Tenants(path, default="default")
