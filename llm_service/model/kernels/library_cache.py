"""Compiled libraries kept between starts, in a folder that only its owner can write.

What lies there is loaded into this process, so a user who can write it runs code as this one. Hence the folder and each
library belong to this user, and no other may write to them. The folder is opened once, checked by its descriptor and
used by way of it, so no other folder can take its place after the check. Libraries appear whole, by a rename.
"""

import os
import stat
import tempfile
from pathlib import Path

MAX_LIBRARIES = 16
"""The newest are kept. One is 60 kB."""


class CacheUnusable(Exception):
    """No libraries can be kept in a folder; says why."""


class LibraryCache:
    """Libraries by key in one folder, which is created (mode 0700) where there is none."""

    def __init__(self, folder: Path) -> None:
        """Raises CacheUnusable."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            raise CacheUnusable(str(error)) from None
        self._folder = Path(f"/proc/self/fd/{self._descriptor}")
        if not _only_owner_writes(os.fstat(self._descriptor)):
            self.close()
            raise CacheUnusable(f"{folder} belongs to another user, or others may write to it")

    def close(self) -> None:
        """Paths of libraries are void from here on; what is loaded stays loaded."""
        os.close(self._descriptor)

    def find(self, key: str) -> Path | None:
        """Path of a library."""
        library = self._path(key)
        try:
            facts = library.lstat()
        except OSError:
            return None
        return library if stat.S_ISREG(facts.st_mode) and _only_owner_writes(facts) else None

    def keep(self, key: str, library: Path) -> None:
        """Copies a library. Raises CacheUnusable where it cannot be written."""
        try:
            with tempfile.TemporaryDirectory(dir=self._folder, prefix="new-") as scratch:
                copy = Path(scratch, key)
                with copy.open("xb") as file:
                    file.write(library.read_bytes())
                    file.flush()
                    os.fsync(file.fileno())
                copy.chmod(0o600)
                copy.rename(self._path(key))
            libraries = sorted(self._folder.glob("*.so"), key=lambda path: path.lstat().st_mtime)
            for old in libraries[:-MAX_LIBRARIES]:
                old.unlink(missing_ok=True)
        except OSError as error:
            raise CacheUnusable(str(error)) from None

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.so"


def user_folder() -> Path:
    """For this user's compiled kernels: in `XDG_CACHE_HOME`, else ~/.cache. Raises CacheUnusable without a home."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise CacheUnusable(str(error)) from None
    if not base.is_absolute():
        raise CacheUnusable(f"the folder for caches is not an absolute path: {base}")
    return base / "internvl" / "kernels"


def _only_owner_writes(facts: os.stat_result) -> bool:
    return facts.st_uid == os.geteuid() and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
