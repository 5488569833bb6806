"""Values made from files that may be replaced while the process runs: key files, certificates.

A new version that is broken changes nothing: the previous value stays, and the log says once what is wrong.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

log = logging.getLogger(__name__)
Made = TypeVar("Made")
Signature = tuple[tuple[int, int, int], ...]
"""Inode, size and time of the last change of each file."""


class FileWatch(Generic[Made]):
    """A value and the files it is made from."""

    def __init__(self, name: str, paths: Sequence[Path], make: Callable[[], Made]) -> None:
        """`name` stands in the log, such as "key file". Raises what `make` raises: ValueError and OSError."""
        self._name = name
        self._paths = paths
        self._make = make
        self._signature: Signature | None = None
        with suppress(OSError):  # `make` says better what is missing
            self._signature = self._read_signature()
        self.value = make()

    def reread(self) -> bool:
        """Makes the value again if a file has changed; returns whether there is a new one."""
        try:
            signature = self._read_signature()
            if signature == self._signature:
                return False
            self._signature = signature
            self.value = self._make()
        except ValueError as error:
            self._reject(str(error))
            return False
        except OSError as error:
            was_missing, self._signature = self._signature is None, None
            if not was_missing:
                self._reject(error.strerror or str(error))
            return False
        log.info("%s reloaded", self._name)
        return True

    def _reject(self, cause: str) -> None:
        log.error("%s rejected, keeping the previous one", self._name, extra={"cause": cause})

    def _read_signature(self) -> Signature:
        found = [path.stat() for path in self._paths]  # of a link's target: Kubernetes changes mounted secrets so
        return tuple((each.st_ino, each.st_size, each.st_mtime_ns) for each in found)
