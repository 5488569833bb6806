"""One compilation of `native.cpp`: the commands, and a key of everything that decides what they make.

`CXX` names the compiler. No compiler may decide how a result is rounded, or kernels of two processors, or two
instances of one template, differ in their last bits: products and sums are fused where the source says so, and nowhere
else.
"""

import hashlib
import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

_FOLDER = Path(__file__).parent
_SOURCE = _FOLDER / "native.cpp"
_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fopenmp", "-Wno-psabi", "-ffp-contract=off", "-fno-fast-math")
_COMPILE_SECONDS = 120


class NativeUnsupported(ValueError):
    """Native kernels are unavailable on this machine; says why."""


@dataclass(frozen=True)
class Build:
    """The kernels compiled for one kind of processor."""

    target: str = "native"
    """As compilers name it in -march; `native` is the processor at hand."""
    tune: str | None = None
    """As in -mtune; None leaves it to the target."""

    def key(self) -> str:
        """Names the library: a digest of sources, commands, compiler and processor. Raises NativeUnsupported."""
        digest = hashlib.sha256(repr([self._compile_command(Path()), self._link_command(Path(), Path())]).encode())
        # What `native` stands for here, every macro and the compiler's own version.
        digest.update(_run([*_compiler(), *_FLAGS, *self._options, "-E", "-dM", "-v", "-x", "c++", os.devnull]))
        for source in (_SOURCE, *sorted(_FOLDER.glob("*.h"))):
            digest.update(source.read_bytes())
        return digest.hexdigest()

    def compile(self, library: Path) -> None:
        """Writes the library, and an object file beside it for a while. Raises NativeUnsupported."""
        objects = library.with_suffix(".o")
        _run(self._compile_command(objects))
        _run(self._link_command(objects, library))
        objects.unlink()

    @property
    def _options(self) -> list[str]:
        return [f"-march={self.target}", *([f"-mtune={self.tune}"] if self.tune else [])]

    def _compile_command(self, objects: Path) -> list[str]:
        return [*_compiler(), *_FLAGS, *self._options, "-c", str(_SOURCE), "-o", str(objects)]

    def _link_command(self, objects: Path, library: Path) -> list[str]:
        # Without -fopenmp and by way of PyTorch's library, so that OpenMP is the one that PyTorch came with; with
        # -fno-fast-math, or a compiler set to -ffast-math links code that flushes small numbers to zero.
        folder = Path(torch.__file__).with_name("lib")
        torch_library = [f"-L{folder}", f"-Wl,-rpath,{folder}", "-ltorch_cpu", "-lc10"]
        return [*_compiler(), "-shared", "-fno-fast-math", str(objects), "-o", str(library), *torch_library]


def _compiler() -> list[str]:
    return shlex.split(os.environ.get("CXX") or "c++")


def _run(command: Sequence[str]) -> bytes:
    """Both outputs, one after the other."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=_COMPILE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeUnsupported(f"no compiler runs: {error}") from None
    if done.returncode:
        message = done.stderr.decode(errors="replace").strip()[-500:]
        raise NativeUnsupported(f"{command[0]} failed: {message}")
    return done.stdout + done.stderr
