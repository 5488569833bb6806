"""Whether this CPU multiplies 16-bit matrices faster once they are widened to float32.

AVX-512's bfloat16 instructions run at half the rate of float32's on some processors, and others have none.
"""

import logging
import time

import torch
from torch.nn import functional as F

log = logging.getLogger(__name__)
_WIDE = torch.float32
_LEAST_GAIN = 1.0
"""Few rows gain at any rate. 1.4 to 1.7 were measured with AVX-512's bfloat16 instructions: noise cannot flip it."""
_ROWS, _WIDTH = 256, 1024


def widens(device: torch.device, dtype: torch.dtype) -> bool:
    """Measures it, in a few hundredths of a second. Call it in the thread that will compute."""
    if device.type != "cpu" or dtype not in (torch.bfloat16, torch.float16):
        return False
    works = [(torch.ones(_ROWS, _WIDTH, dtype=each), torch.ones(_WIDTH, _WIDTH, dtype=each)) for each in (dtype, _WIDE)]
    # In turn: the quickest of each are then of the same moments, should others use the machine.
    rounds = [[_seconds(*work) for work in works] for _ in range(10)]
    narrow, wide = (min(seconds) for seconds in zip(*rounds, strict=True))
    gain = float(narrow / wide)
    log.info("measured products of matrices", extra={"dtype": str(dtype), "float32_times_as_fast": round(gain, 2)})
    return gain >= _LEAST_GAIN


def _seconds(x: torch.Tensor, weight: torch.Tensor) -> float:
    start = time.perf_counter()
    F.linear(x, weight)
    return time.perf_counter() - start
