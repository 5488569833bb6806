"""Memory that the services take for one checkpoint with their default settings, beside the devices of this machine."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from deploy.sizing.costs import Costs
from llm_service.settings import LlmSettings
from shared.checkpoint.config import ModelConfig
from shared.checkpoint.weights import LANGUAGE_PREFIXES, VISION_PREFIXES, Checkpoint
from vision_service.settings import VisionSettings

GIB = 1 << 30


@dataclass(frozen=True)
class Device:
    """A GPU, or the machine's processors."""

    kind: str
    """cuda or cpu."""
    name: str
    byte_count: int
    free_bytes: int
    value_bytes: int
    """Bytes of the vision service's dtype there."""


@dataclass(frozen=True)
class Need:
    """Bytes that one service takes."""

    weights: int
    cache: int
    """Keys and values; of the vision service none."""
    activations: int
    """About: the largest arrays of one step."""

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.activations

    def __str__(self) -> str:
        cache = f", cache {_gib(self.cache)}" if self.cache else ""
        return f"{_gib(self.total)}: weights {_gib(self.weights)}{cache}, activations about {_gib(self.activations)}"


def devices() -> list[Device]:
    """The GPUs that PyTorch sees, or the processors where it sees none."""
    if torch.cuda.is_available():
        return [
            Device("cuda", f"cuda:{index} ({torch.cuda.get_device_name(index)})", total, free, 2)
            for index in range(torch.cuda.device_count())
            for free, total in [torch.cuda.mem_get_info(index)]
        ]
    page = os.sysconf("SC_PAGE_SIZE")
    return [Device("cpu", f"cpu ({os.cpu_count()} cores)", page * os.sysconf("SC_PHYS_PAGES"), _available_bytes(), 4)]


def vision_need(checkpoint: Checkpoint, config: ModelConfig, device: Device) -> Need:
    """With weights in the dtype that the service chooses there."""
    vision = config.vision
    settings = VisionSettings.model_construct()
    rows = settings.batch_size(device.kind) * ((vision.image_size // vision.patch_size) ** 2 + 1)
    return Need(
        weights=checkpoint.parameter_count(*VISION_PREFIXES) * device.value_bytes,
        cache=0,
        activations=rows * (6 * vision.hidden_size + vision.intermediate_size) * device.value_bytes,
    )


def llm_need(checkpoint: Checkpoint, config: ModelConfig) -> Need:
    """In bfloat16, on one device. A head that is tied is held twice."""
    language, settings = config.language, LlmSettings.model_construct()
    vocabulary, hidden = int(language["vocab_size"]), int(language["hidden_size"])
    tied = checkpoint.with_head(is_tied=config.is_tied)
    step = settings.tokens_per_step * (6 * hidden + 3 * int(language["intermediate_size"])) * 2
    return Need(
        weights=tied.parameter_count(*LANGUAGE_PREFIXES) * 2,
        cache=settings.cache_bytes,
        activations=step + settings.max_running * vocabulary * 4 * 3,
    )


def cached_tokens(config: ModelConfig) -> int:
    """Tokens that the LLM service's cache holds by default."""
    return LlmSettings.model_construct().cache_bytes // Costs.of(config).token_kv_bytes


def fits(device: Device, needs: list[Need]) -> str:
    """One line: what is there, and whether all of it fits."""
    total = sum(need.total for need in needs)
    there = f"{_gib(device.byte_count)}, {_gib(device.free_bytes)} free"
    if total <= device.free_bytes:
        return f"{there}: both services fit"
    if max(need.total for need in needs) <= device.free_bytes:
        return f"{there}: either service fits, not both ({_gib(total)})"
    there = f"{there}: too small for {_gib(total)}"
    if device.kind == "cpu":
        return f"{there}; weights=int8 halves the LLM service's weights"
    share = -(-needs[-1].total // max(device.free_bytes, 1))
    return f"{there}; the LLM service takes {share} of them (tensor_parallel), or half with weights=int8"


def _available_bytes() -> int:
    """Memory that Linux would give without swapping, its caches included."""
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))


def _gib(byte_count: int) -> str:
    if byte_count < GIB / 10:
        return f"{byte_count / (1 << 20):.1f} MiB"
    return f"{byte_count / GIB:.2f} GiB" if byte_count < 10 * GIB else f"{byte_count / GIB:.0f} GiB"
