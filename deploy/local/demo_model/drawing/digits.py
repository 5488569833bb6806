"""Real handwritten digits: the 1,797 of scikit-learn (8x8 grey levels, UCI), split once and for all.

Knows nothing of colours or pictures. The split is by index with a fixed seed, so no digit that the model is tested
on is ever drawn in training.
"""

from enum import Enum
from functools import cache

import numpy as np
from sklearn.datasets import load_digits

HELD_OUT_COUNT = 397
SPLIT_SEED = 20250411


class Split(Enum):
    """Which digits may be drawn."""

    TRAIN = "train"
    HELD_OUT = "held out"


@cache
def drawings() -> np.ndarray:
    """uint8 (1797, 8, 8): ink, from 0 to 255."""
    ink: np.ndarray = np.round(load_digits().images * (255 / 16))
    return ink.astype(np.uint8)


@cache
def values() -> np.ndarray:
    """int64 (1797,): which digit each drawing shows."""
    return np.asarray(load_digits().target, dtype=np.int64)


@cache
def indices(split: Split) -> np.ndarray:
    """The drawings that belong to `split`."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(values()))
    return np.sort(order[:HELD_OUT_COUNT] if split is Split.HELD_OUT else order[HELD_OUT_COUNT:])


@cache
def indices_of(split: Split, value: int) -> np.ndarray:
    """The drawings of `split` that show `value`."""
    chosen = indices(split)
    of_value: np.ndarray = chosen[values()[chosen] == value]
    return of_value
