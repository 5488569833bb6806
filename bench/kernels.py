"""Two libraries of the native kernels in turns: the speed of the second over the first's.

    git worktree add ../before COMMIT     # for both checkouts, with the same Python:
    PYTHONPATH=../before python -m llm_service.model.kernels.native
    python -m bench.kernels BEFORE.so AFTER.so [--seconds 5]

Libraries lie beside `native.cpp`. Processor time of one thread: each row is measured many times in turns, and the
quickest of each library is printed. So a ratio holds on a machine that others use too, where no single time does.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from bench.checkpoint.qwen import VOCABULARY_SIZE
from bench.checkpoint.shapes import FAMILY
from bench.machine import OtherLoad
from llm_service.model.kernels.native import Native

SHAPE = FAMILY["1B"].decoder
HIDDEN, INTERMEDIATE, GROUPS = SHAPE.hidden_size, SHAPE.intermediate_size, SHAPE.kv_head_count
HEAD_DIM = HIDDEN // SHAPE.head_count
PAGE_SIZE, CONTEXT, CHUNK = 16, 1024, 128
_SHORTEST = 2e-3
"""Seconds of one repeat."""


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each row")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    natives = Native(arguments.before.resolve()), Native(arguments.after.resolve())
    load = OtherLoad()
    print("| | before | after | after's speed / before's |\n|---|---|---|---|")
    for (name, before), (_, after) in zip(*map(rows, natives), strict=True):
        first, second = in_turns(before, after, arguments.seconds)
        print(f"| {name} | {first * 1e6:,.0f} | {second * 1e6:,.0f} | {first / second:.2f} |", flush=True)
    print(f"\nmicroseconds; other processes used {load.cores():.2f} cores")


def in_turns(first: Callable[[], object], second: Callable[[], object], seconds: float) -> tuple[float, float]:
    """Processor seconds of each, at its quickest."""
    repeats = [max(1, round(_SHORTEST / min(_timed(work, 1) for _ in range(3)))) for work in (first, second)]
    found: tuple[list[float], list[float]] = [], []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found[0]) < 10:
        for work, times, count in zip((first, second), found, repeats, strict=True):
            times.append(_timed(work, count))
    return min(found[0]), min(found[1])


def _timed(work: Callable[[], object], count: int) -> float:
    start = time.process_time()
    for _ in range(count):
        work()
    return (time.process_time() - start) / count


def rows(native: Native) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each with what it runs; the same numbers for every library."""
    torch.manual_seed(1)
    gate = Linear(native, HIDDEN, INTERMEDIATE)
    for count in (1, 4, 64):
        x = _randn(count, HIDDEN)
        yield f"linear map {HIDDEN} to {INTERMEDIATE}, rows: {count}", partial(gate, x, silu=True)
    weight = _randn(HIDDEN)
    for count in (1, 512):
        x = _randn(count, HIDDEN)
        yield f"norm, rows: {count}", partial(native.rms_norm, x, weight, 1e-6)
    for heads, head_dim in ((SHAPE.head_count, HEAD_DIM), (SHAPE.head_count, 2 * HEAD_DIM), (GROUPS, HEAD_DIM)):
        for count in (1, CHUNK):
            work = Attention(native, count, heads, head_dim)
            yield f"attention, {head_dim} wide, {heads // GROUPS} to a key, {count} of {CONTEXT} tokens", work
    for count in (1, 8):
        yield f"kernels of a decoding step of 1B, sequences: {count}", Step(native, count)


class Linear:
    """A packed weight (O, I)."""

    def __init__(self, native: Native, inputs: int, outputs: int) -> None:
        self._native, self._outputs = native, outputs
        self._packed = native.pack(_randn(outputs, inputs))

    def __call__(self, x: torch.Tensor, *, silu: bool = False) -> torch.Tensor:
        return self._native.linear(self._packed, x, self._outputs, silu=silu)


class Attention:
    """The last `count` tokens of one context, or the last of each of `sequences`."""

    def __init__(self, native: Native, count: int, heads: int, head_dim: int, sequences: int = 1) -> None:
        self._native, self._scaling = native, head_dim**-0.5
        pages = CONTEXT // PAGE_SIZE
        self._keys, self._values = (_randn(sequences * pages, PAGE_SIZE, GROUPS, head_dim) for _ in range(2))
        self._tables = torch.randperm(sequences * pages).to(torch.int32).view(sequences, pages)
        self._sizes = torch.full((sequences,), count), torch.full((sequences,), CONTEXT)
        self._query = _randn(sequences * count, heads, head_dim)

    def __call__(self) -> torch.Tensor:
        cache = self._keys, self._values, self._tables
        return self._native.attend(self._query, *cache, *self._sizes, self._scaling)


@dataclass
class Step:
    """Every call of a kernel in one step of `count` sequences, with weights of as many layers as the model has."""

    native: Native
    count: int

    def __post_init__(self) -> None:
        self._norm, self._x = _randn(HIDDEN), _randn(self.count, HIDDEN)
        self._inner = _randn(self.count, INTERMEDIATE)
        fused = HIDDEN + 2 * GROUPS * HEAD_DIM
        sizes = [(HIDDEN, fused), (HIDDEN, HIDDEN), (HIDDEN, INTERMEDIATE), (HIDDEN, INTERMEDIATE)]
        self._layers = [[Linear(self.native, *size) for size in sizes] for _ in range(SHAPE.layer_count)]
        self._down = [Linear(self.native, INTERMEDIATE, HIDDEN) for _ in range(SHAPE.layer_count)]
        self._attention = Attention(self.native, 1, SHAPE.head_count, HEAD_DIM, self.count)
        self._head = Linear(self.native, HIDDEN, VOCABULARY_SIZE)

    def __call__(self) -> torch.Tensor:
        for maps, down in zip(self._layers, self._down, strict=True):
            for linear in maps:
                linear(self._x)
            down(self._inner)
            self._attention()
            for _ in range(2):
                self.native.rms_norm(self._x, self._norm, 1e-6)
        return self._head(self.native.rms_norm(self._x, self._norm, 1e-6))


def _randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape).bfloat16()


if __name__ == "__main__":
    main()
