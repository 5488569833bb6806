"""Whether this CPU multiplies 16-bit matrices faster once they are widened to float32.

AVX-512's bfloat16 instructions run at half the rate of float32's on some processors, and others have none.
"""

import logging
import time
from functools import cache

import torch
from torch.nn import functional as F

log = logging.getLogger(__name__)
_LEAST_GAIN = 1.3
"""Widening has its price; and no processor is near this, to be judged another way at each start."""
_ROWS, _WIDTH = 256, 1024


@cache
def widens(device: torch.device, dtype: torch.dtype) -> bool:
    """Measured once in a process, in a few hundredths of a second, by the thread that will compute."""
    if device.type != "cpu" or dtype not in (torch.bfloat16, torch.float16):
        return False
    gain = _seconds(dtype) / _seconds(torch.float32)
    log.info("measured products of matrices", extra={"dtype": str(dtype), "float32_times_as_fast": round(gain, 2)})
    return gain >= _LEAST_GAIN


def _seconds(dtype: torch.dtype) -> float:
    """The quickest of a few products."""
    x, weight = torch.ones(_ROWS, _WIDTH, dtype=dtype), torch.ones(_WIDTH, _WIDTH, dtype=dtype)
    times = []
    for _ in range(8):
        start = time.perf_counter()
        F.linear(x, weight)
        times.append(time.perf_counter() - start)
    return min(times)
