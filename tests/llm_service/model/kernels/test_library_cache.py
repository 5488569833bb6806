"""Libraries lie in a folder that its owner alone can write, whole, and not more of them than said."""

import os
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from llm_service.model.kernels.library_cache import MAX_LIBRARIES, CacheUnusable, LibraryCache, user_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a" / "b"


@pytest.fixture
def cache(folder: Path) -> Iterator[LibraryCache]:
    with closing(LibraryCache(folder)) as cache:
        yield cache


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "library"
    path.write_bytes(b"code")
    return path


def test_what_is_kept_is_found_by_the_next_start(cache: LibraryCache, folder: Path, library: Path) -> None:
    assert cache.find("key") is None
    cache.keep("key", library)
    with closing(LibraryCache(folder)) as later:
        found = later.find("key")
        assert found is not None
        assert found.read_bytes() == b"code"
        assert later.find("other") is None


def test_the_folder_is_its_owners_and_holds_nothing_else(cache: LibraryCache, folder: Path, library: Path) -> None:
    old_mask = os.umask(0)
    try:
        cache.keep("key", library)
        with closing(LibraryCache(folder.parent / "c")):
            assert stat.S_IMODE((folder.parent / "c").stat().st_mode) == 0o700
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == ["key.so"]
    assert stat.S_IMODE((folder / "key.so").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_can_write_is_refused(folder: Path, mode: int) -> None:
    folder.mkdir(parents=True)
    folder.chmod(mode)
    with pytest.raises(CacheUnusable, match="others may write"):
        LibraryCache(folder)


def test_a_folder_of_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(CacheUnusable, match="another user"):
        LibraryCache(folder)


def test_a_link_and_a_file_in_its_place_are_refused(folder: Path, tmp_path: Path, library: Path) -> None:
    folder.parent.mkdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(CacheUnusable):
        LibraryCache(folder)
    with pytest.raises(CacheUnusable):
        LibraryCache(library)


def test_a_library_that_others_can_write_or_that_is_a_link_is_not_found(
    cache: LibraryCache, folder: Path, library: Path
) -> None:
    cache.keep("writable", library)
    (folder / "writable.so").chmod(0o622)
    (folder / "link.so").symlink_to(library)
    (folder / "folder.so").mkdir()
    assert [cache.find(key) for key in ("writable", "link", "folder")] == [None] * 3


def test_a_folder_put_in_its_place_after_the_check_is_not_used(
    cache: LibraryCache, folder: Path, library: Path
) -> None:
    cache.keep("key", library)
    folder.rename(folder.with_name("moved"))
    folder.mkdir()
    (folder / "key.so").write_bytes(b"another's")
    found = cache.find("key")
    assert found is not None
    assert found.read_bytes() == b"code"


def test_one_that_cannot_be_written_is_said_and_leaves_nothing(cache: LibraryCache, folder: Path) -> None:
    with pytest.raises(CacheUnusable):
        cache.keep("key", folder / "no such library")
    assert list(folder.iterdir()) == []


def test_the_newest_are_kept(cache: LibraryCache, folder: Path, library: Path) -> None:
    for index in range(MAX_LIBRARIES + 3):
        cache.keep(f"{index}", library)
        os.utime(folder / f"{index}.so", (index, index))
    assert {path.stem for path in folder.iterdir()} == {f"{index}" for index in range(3, MAX_LIBRARIES + 3)}


def test_the_folder_is_where_programs_of_this_user_keep_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert user_folder() == Path("/somewhere/internvl/kernels")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    with pytest.raises(CacheUnusable, match="relative"):
        user_folder()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/one")
    assert user_folder() == Path("/home/one/.cache/internvl/kernels")
