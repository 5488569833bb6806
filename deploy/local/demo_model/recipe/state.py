"""A training run's folder: the state it resumes from, and the record of its losses.

    state.pt        weights, heads, optimizers, part and step; replaced in one move, so that it is whole at any time
    losses.csv      part, step, loss, value: appended while training
    tokenizer/      made once; it stays, even if the questions it was trained on change

The folder is outside of the repository: INTERNVL_DEMO_RUN, or a cache folder of the user's.
"""

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def default_folder() -> Path:
    """Where a run keeps its state unless told otherwise."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "internvl-demo"


def save(folder: Path, state: Mapping[str, Any], name: str = "state.pt") -> None:
    """Replace the saved state in one move."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{name}.tmp"
    with unfinished.open("wb") as file:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(folder / name)


def load(folder: Path, name: str = "state.pt") -> dict[str, Any] | None:
    """The saved state, or None where there is none."""
    path = folder / name
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def record(folder: Path, part: str, step: int, losses: Mapping[str, float]) -> None:
    """Append a step's losses."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "losses.csv").open("a", newline="") as file:
        csv.writer(file).writerows([part, step, name, f"{value:.5g}"] for name, value in losses.items())
