"""Limits of this machine, and whether other processes use it."""

import os
import resource
import sys
import time
from pathlib import Path

import torch

MALLOC_SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": "536870912",
    "MALLOC_TRIM_THRESHOLD_": "536870912",
    "MALLOC_TOP_PAD_": "67108864",
}
"""As the launcher and the images run the services: freed memory is kept, so that large tensors fault no pages in."""
MOST_OTHERS = 0.15
"""Cores: a measurement during which other processes used more says nothing."""
_BANDWIDTH_BYTES = 1 << 30
_GEMM_SIZE = 3072


class OthersAtWork(RuntimeError):
    """Other processes took so much of the processor that a measurement says nothing."""


class OtherLoad:
    """Cores that processes other than this one and its children used since it was made. Children count once ended."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._all, self._own = _busy_seconds(), _own_seconds()

    def cores(self) -> float:
        others = (_busy_seconds() - self._all) - (_own_seconds() - self._own)
        return max(others, 0.0) / (time.monotonic() - self._start)


def allocate_as_services(module: str) -> None:
    """Starts this command, `python -m module`, again with the services' settings of malloc, unless some are set."""
    if os.environ.get("MALLOC_MMAP_THRESHOLD_") is None:
        os.environ.update(MALLOC_SETTINGS)
        os.execv(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]])


def bandwidth() -> float:
    """Bytes per second read by a matrix-vector product in float32, best of five."""
    matrix, vector = torch.randn(_BANDWIDTH_BYTES // 4 // 4096, 4096), torch.randn(4096)
    return matrix.nbytes / min(_seconds(lambda: matrix @ vector) for _ in range(5))


def gemm_rate(dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix product, best of three."""
    matrix = torch.randn(_GEMM_SIZE, _GEMM_SIZE).to(dtype)
    return float(2 * _GEMM_SIZE**3 / min(_seconds(lambda: matrix @ matrix) for _ in range(3)))


def _seconds(work: object) -> float:
    assert callable(work)
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _busy_seconds() -> float:
    """All processors' time that was not idle, since boot."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
