"""The kernels of `native.cpp`: bfloat16 on a CPU, compiled at start for the processor they run on.

They are for processors that multiply faster in float32 than in bfloat16 (`widens`): weights and cache stay in 16 bits,
which is what decoding is bound by, and every product and sum is float32's. They share the team of threads of PyTorch:
whose thread calls them computes with as many as PyTorch would.

python -m llm_service.model.kernels.native compiles ahead, beside the source: for an image that has no compiler.
"""

import ctypes
import logging
import os
import platform
import shlex
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

import torch
from torch.nn import functional as F

from llm_service.model.kernels.widening import widens

log = logging.getLogger(__name__)
_SOURCE = Path(__file__).with_name("native.cpp")
_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fopenmp", "-Wno-psabi")
_COMPILE_SECONDS = 120
_TARGET_BY_CAPABILITY = {"AVX2": "x86-64-v3", "AVX512": "x86-64-v4"}
"""What PyTorch finds in a processor, and the names that compilers have for such."""


class NativeUnsupported(ValueError):
    """These kernels cannot be had here, and why."""


class Native:
    """The kernels. All tensors are bfloat16 on the CPU unless said otherwise."""

    def __init__(self, library: Path) -> None:
        """Raises NativeUnsupported for what cannot be loaded."""
        try:
            functions = ctypes.CDLL(str(library))
        except OSError as error:
            raise NativeUnsupported(f"the compiled kernels cannot be loaded: {error}") from None
        self._linear, self._rms_norm, self._attend = (
            functions.native_linear, functions.native_rms_norm, functions.native_attend
        )  # fmt: skip
        pointer, number = ctypes.c_void_p, ctypes.c_long
        self._linear.argtypes = [pointer] * 6 + [ctypes.c_int] + [number] * 3
        self._rms_norm.argtypes = [pointer] * 3 + [ctypes.c_float] + [number] * 2
        self._attend.argtypes = [pointer] * 7 + [number] * 6 + [ctypes.c_float]
        self._linear.restype = self._rms_norm.restype = self._attend.restype = None
        functions.native_panel.restype = number
        self.panel = int(functions.native_panel())
        """Output features computed side by side."""

    def pack(self, weight: torch.Tensor) -> torch.Tensor:
        """(O, I), I even -> what `linear` reads."""
        padded = F.pad(weight, (0, 0, 0, -len(weight) % self.panel)).contiguous()
        pairs = padded.view(torch.int32).view(-1, self.panel, weight.shape[1] // 2)
        return pairs.transpose(1, 2).contiguous()

    def linear(
        self,
        packed: torch.Tensor,
        x: torch.Tensor,
        output_size: int,
        *,
        bias: torch.Tensor | None = None,
        silu: bool = False,
        factor: torch.Tensor | None = None,
        term: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """x (M, I) by a packed weight -> (M, O): + bias (O,), SiLU, * factor (M, O), + term (M, O); rounded once."""
        x = x.contiguous()
        result = x.new_empty(len(x), output_size)
        others = [None if other is None else other.contiguous() for other in (bias, factor, term)]
        self._linear(
            packed.data_ptr(), x.data_ptr(), result.data_ptr(), *map(_address, others), silu, *x.shape, output_size
        )
        return result

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """x (..., E), weight (E,) -> (..., E)."""
        x, width = x.contiguous(), len(weight)
        result = torch.empty_like(x)
        self._rms_norm(x.data_ptr(), weight.data_ptr(), result.data_ptr(), eps, x.numel() // width, width)
        return result

    def attend(
        self,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        page_tables: torch.Tensor,
        query_counts: torch.Tensor,
        context_counts: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        """The last tokens of S sequences: query (T, H, D) over pages (N, P, G, D) -> (T, H, D).

        page_tables int32 (S, most pages); int64 (S,): query_counts, T in sum, and context_counts.
        """
        query = query.contiguous()
        result = torch.empty_like(query)
        pointers = (query, keys, values, result, page_tables, query_counts, context_counts)
        self._attend(
            *map(_address, pointers), len(page_tables), query.shape[1], keys.shape[2], query.shape[2], keys.shape[1],
            page_tables.shape[1], scaling,
        )  # fmt: skip
        return result


def native_for(device: torch.device, dtype: torch.dtype) -> Native | None:
    """The kernels, where they are of use and can be had; where they cannot, the log says why."""
    return _load() if dtype == torch.bfloat16 and widens(device, dtype) else None


@cache
def _load() -> Native | None:
    built = _built(_TARGET_BY_CAPABILITY.get(torch.backends.cpu.get_cpu_capability(), ""))
    try:
        return Native(built) if built.exists() else compile_native()
    except NativeUnsupported as error:
        log.warning("PyTorch's kernels compute in bfloat16, which takes longer", extra={"cause": str(error)})
        return None


def compile_native(target: str = "native") -> Native:
    """For the processor that compilers know by this name, loaded. Raises NativeUnsupported."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="internvl-native-") as folder:
        library = Path(folder, "native.so")
        _compile(target, library)
        native = Native(library)
    log.info("compiled kernels", extra={"seconds": round(time.monotonic() - start, 1)})
    return native


def _compile(target: str, library: Path) -> None:
    """`CXX` names the compiler. Raises NativeUnsupported."""
    compiler, objects = shlex.split(os.environ.get("CXX") or "c++"), library.with_suffix(".o")
    _run([*compiler, *_FLAGS, f"-march={target}", "-c", str(_SOURCE), "-o", str(objects)])
    # Without -fopenmp and by way of PyTorch's library: OpenMP is to be the one that PyTorch came with.
    torch_folder = Path(torch.__file__).with_name("lib")
    paths = [f"-L{torch_folder}", f"-Wl,-rpath,{torch_folder}"]
    _run([*compiler, "-shared", str(objects), "-o", str(library), *paths, "-ltorch_cpu", "-lc10"])
    objects.unlink()


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeUnsupported(f"no compiler to be had: {error}") from None
    if done.returncode:
        raise NativeUnsupported(f"{command[0]} failed: {done.stderr.strip()[-500:]}")


def _address(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _built(target: str) -> Path:
    return _SOURCE.with_name(f"native-{target}.so")


if __name__ == "__main__":
    # For the processors that PyTorch tells apart on x86-64; for others kernels are compiled at start.
    for target in _TARGET_BY_CAPABILITY.values() if platform.machine() == "x86_64" else ():
        _compile(target, _built(target))
