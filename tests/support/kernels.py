"""The builds of the native kernels that run on this processor, and attention's inputs."""

import platform
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from llm_service.model.kernels.build import Build
from llm_service.model.kernels.native import Native, load_native

PAGE_SIZE = 16
_TUNED = (Build("x86-64-v3", "znver3"), Build("x86-64-v3", "icelake-server"))
"""Compilers fuse products, or do not, as suits the processor that they tune for."""
_FUSED = {
    "AVX2": (Build("x86-64-v3"), *_TUNED),
    "AVX512": (Build("x86-64-v3"), *_TUNED, Build("x86-64-v4"), Build("x86-64-v4", "icelake-server")),
}
FUSED = (Build(), *_FUSED.get(torch.backends.cpu.get_cpu_capability(), ()))
"""They multiply and add in one instruction, and so agree with one another."""
PLAIN = (Build("x86-64"),) if platform.machine() == "x86_64" else ()
"""Without that instruction, and of another width: what any processor runs."""
BUILDS = (*FUSED, *PLAIN)


def name_of(build: Build) -> str:
    return build.target + (f", {build.tune}" if build.tune else "")


def load_all() -> dict[Build, Native]:
    """In parallel; each is compiled once, in this session or an earlier one."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(BUILDS, pool.map(load_native, BUILDS), strict=True))


@contextmanager
def one_thread() -> Iterator[None]:
    """For many short calls: where others use the processors, threads that wait for each other are slow."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape).bfloat16()


def pages_of(contexts: list[int], groups: int, head_dim: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Tables, keys and values of contexts over pages of 16 tokens in no order; what is not context is NaN."""
    counts = [-(-count // PAGE_SIZE) for count in contexts]
    order = iter(torch.randperm(sum(counts)).tolist())
    tables = torch.zeros(len(contexts), max(counts), dtype=torch.int32)
    stored = [torch.full((sum(counts), PAGE_SIZE, groups, head_dim), torch.nan).bfloat16() for _ in range(2)]
    for index, count in enumerate(contexts):
        for start in range(0, count, PAGE_SIZE):
            page = tables[index, start // PAGE_SIZE] = next(order)
            for pages in stored:
                pages[int(page), : count - start] = torch.randn_like(pages[0, : count - start])
    return tables, stored
