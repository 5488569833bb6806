"""A training run: the parts of the recipe one after the other, resumable at any moment.

Knows nothing of what a part teaches. The state is saved every few minutes and at the end of each part.
"""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

from deploy.local.demo_model.network.learner import Learner, Losses
from deploy.local.demo_model.recipe import state

SEED = 7
SAVED_EVERY_S = 240.0
RECORDED_EVERY = 5
"""Steps between two rows of losses.csv."""
PREFETCHED = 6


class Part(ABC):
    """One part of the recipe."""

    name: str
    steps: int

    @abstractmethod
    def micro_batches(self, seed: int) -> Iterator[Any]:
        """Endless micro-batches, the same ones for the same seed."""

    @abstractmethod
    def loss(self, learner: Learner, micro_batch: Any) -> tuple[torch.Tensor, Losses]:
        """What a micro-batch teaches, and what to record about it."""

    @abstractmethod
    def rate(self, step: int) -> float:
        """Learning rate at a step, relative to the highest."""

    def begin(self, learner: Learner) -> None:  # noqa: B027 - most parts have nothing to prepare
        """Prepares before the first step of the part, also where a run is resumed within it."""

    def learned(self, learner: Learner, losses: Losses) -> None:  # noqa: B027 - most parts keep nothing
        """Called after each step with what was recorded about it."""


def warm_up_and_fall(step: int, steps: int, *, warm_up: int, falling: int, highest: float = 1.0) -> float:
    """A rate that rises, stays and falls to nothing."""
    return highest * min(1.0, (step + 1) / warm_up, (steps - step) / falling if falling else 1.0)


class Run:
    """The parts, and how far the run has come."""

    def __init__(self, folder: Path, learner: Learner, parts: Sequence[Part]) -> None:
        self.folder, self.learner, self.parts = folder, learner, parts
        self.part, self.step = parts[0].name, 0
        self.stopping = False

    def stop(self, *_signal: object) -> None:
        """Asks the run to save and end after the current step; fit for a signal handler."""
        self.stopping = True

    def resume(self) -> None:
        """Take up the saved state, if there is one."""
        saved = state.load(self.folder)
        if saved is not None:
            self.learner.load(saved)
            self.part, self.step = saved["part"], saved["step"]

    def go(self, until: str) -> None:
        """Train to the end of part `until`."""
        names = [part.name for part in self.parts]
        for part in self.parts[names.index(self.part) : names.index(until) + 1]:
            if part.name != self.part:
                self.part, self.step = part.name, 0
            part.begin(self.learner)
            self._train(part)
            if self.stopping:
                return
            self.save(f"{part.name}.pt")

    def save(self, name: str = "state.pt") -> None:
        state.save(self.folder, {"part": self.part, "step": self.step, **self.learner.state()}, name)

    def _train(self, part: Part) -> None:
        bar = tqdm(total=part.steps, initial=self.step, unit="step", mininterval=20, desc=part.name)
        saved = time.monotonic()
        threads = self.learner.threads
        stream = _in_a_process(part, SEED * 1_000_003 + self.step)
        while self.step < part.steps and not self.stopping:
            losses = self.learner.learn(
                [next(stream) for _ in range(threads)],
                lambda batch: part.loss(self.learner, batch),
                part.rate(self.step),
            )
            part.learned(self.learner, losses)
            self.step += 1
            bar.update()
            if self.step % RECORDED_EVERY == 0:
                bar.set_postfix({name: f"{value:.3g}" for name, value in losses.items()}, refresh=False)
                state.record(self.folder, part.name, self.step, losses)
            if time.monotonic() - saved > SAVED_EVERY_S:
                self.save()
                saved = time.monotonic()
        self.save()


class _Stream(IterableDataset[Any]):
    def __init__(self, part: Part, seed: int) -> None:
        self.part, self.seed = part, seed

    def __iter__(self) -> Iterator[Any]:
        return self.part.micro_batches(self.seed)


def _in_a_process(part: Part, seed: int) -> Iterator[Any]:
    """Micro-batches, drawn ahead in a process of their own."""
    loader = DataLoader(
        _Stream(part, seed), batch_size=None, num_workers=1, prefetch_factor=PREFETCHED, worker_init_fn=_give_way
    )
    return iter(loader)


def _give_way(_worker: int) -> None:
    """Drawing is ahead of training; let it wait rather than slow training down."""
    torch.set_num_threads(1)
    os.nice(1)
