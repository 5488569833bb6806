"""Choice of the replica that a key belongs to: highest random weight, bounded by load. Pure.

Each key ranks all names on its own, so that a name that comes takes only its share from the others, and one that goes
leaves only its own share to them. No name is given more than `load_factor` times the mean load: past that a key goes to
the next name of its ranking, so that one hot key does not sink one replica.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping

LOAD_FACTOR = 1.25


def ranked(key: bytes, names: Iterable[str]) -> list[str]:
    """The names in the order in which `key` prefers them."""
    return sorted(names, key=lambda name: _weight(key, name), reverse=True)


def choose(key: bytes, loads: Mapping[str, int], *, load_factor: float = LOAD_FACTOR) -> str:
    """The most preferred name that has room for one more. `loads` holds at least one name."""
    room = math.ceil(load_factor * (sum(loads.values()) + 1) / len(loads))
    return next(name for name in ranked(key, loads) if loads[name] < room)


def _weight(key: bytes, name: str) -> bytes:
    digest = hashlib.blake2b(key, digest_size=8)
    digest.update(b"\0")
    digest.update(name.encode())
    return digest.digest()
