"""The kernels of `native.cpp`: bfloat16 on a CPU, for the processor they run on.

They are for processors that multiply faster in float32 than in bfloat16 (`widens`): weights and cache stay in 16 bits,
which is what decoding is bound by, and every product and sum is float32's. They run on the caller's OpenMP team, so
with PyTorch's number of threads.

Libraries lie beside the source where an image was built with them (python -m llm_service.model.kernels.native), else in
this user's cache, where the first start compiles one.
"""

import ctypes
import logging
import platform
import tempfile
import time
from contextlib import closing
from pathlib import Path

import torch
from torch.nn import functional as F

from llm_service.model.kernels.build import Build, NativeUnsupported
from llm_service.model.kernels.library_cache import CacheUnusable, LibraryCache, user_folder

log = logging.getLogger(__name__)
_TARGET_BY_CAPABILITY = {"AVX2": "x86-64-v3", "AVX512": "x86-64-v4"}
"""Capabilities that PyTorch finds in a processor, and compilers' names for them."""


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


def load_native(build: Build | None = None) -> Native:
    """The kernels of a build, from this user's cache or compiled now. Raises NativeUnsupported.

    Without a build: those compiled ahead for this processor if there are any, else those for the processor at hand.
    """
    if build is None:
        ahead = _built(_TARGET_BY_CAPABILITY.get(torch.backends.cpu.get_cpu_capability(), ""))
        if ahead.exists():
            return Native(ahead)
        build = Build()
    try:
        cached = closing(LibraryCache(user_folder()))
    except CacheUnusable as error:
        log.warning("each start compiles kernels", extra={"cause": str(error)})
        return _compiled(build, None, "")
    with cached as libraries:
        key = build.key()
        return _found(libraries, key) or _compiled(build, libraries, key)


def _found(libraries: LibraryCache, key: str) -> Native | None:
    library = libraries.find(key)
    if library is None:
        return None
    try:
        native = Native(library)
    except NativeUnsupported as error:
        log.warning("a kept library of kernels is useless", extra={"key": key, "cause": str(error)})
        return None
    log.info("found compiled kernels", extra={"key": key})
    return native


def _compiled(build: Build, libraries: LibraryCache | None, key: str) -> Native:
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="internvl-kernels-") as folder:  # for its owner only
        library = Path(folder, "native.so")
        build.compile(library)
        native = Native(library)
        log.info("compiled kernels", extra={"seconds": round(time.monotonic() - start, 1)})
        if libraries is not None:
            try:
                libraries.keep(key, library)
            except CacheUnusable as error:
                log.warning("each start compiles kernels", extra={"cause": str(error)})
    return native


def _address(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _built(target: str) -> Path:
    return Path(__file__).with_name(f"native-{target}.so")


if __name__ == "__main__":
    # For the processors that PyTorch tells apart on x86-64; for others the first start compiles.
    for target in _TARGET_BY_CAPABILITY.values() if platform.machine() == "x86_64" else ():
        Build(target).compile(_built(target))
