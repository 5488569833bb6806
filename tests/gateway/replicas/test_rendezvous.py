"""Keys go where they went before, a change moves only its share, and nobody is overloaded."""

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.replicas.rendezvous import LOAD_FACTOR, choose, ranked

NAMES = st.sets(st.text(min_size=1, max_size=12), min_size=1, max_size=12)
KEYS = [f"key {index}".encode() for index in range(200)]


@given(names=NAMES, gone=st.integers(min_value=0), key=st.binary(max_size=16))
def test_a_name_that_goes_changes_the_ranking_of_no_other(names: set[str], gone: int, key: bytes) -> None:
    before = ranked(key, names)
    lost = before[gone % len(before)]
    assert ranked(key, names - {lost}) == [name for name in before if name != lost]


@given(names=NAMES, new=st.text(min_size=1, max_size=12))
def test_a_name_that_comes_takes_keys_and_moves_no_other(names: set[str], new: str) -> None:
    for key in KEYS:
        before, after = ranked(key, names)[0], ranked(key, names | {new})[0]
        assert after in (before, new)


def test_shares_are_even() -> None:
    names = [f"10.0.0.{index}:50052" for index in range(8)]
    counts = Counter(ranked(f"conversation {index}".encode(), names)[0] for index in range(8000))
    assert set(counts) == set(names)
    assert max(counts.values()) < 1.2 * 1000
    assert min(counts.values()) > 0.8 * 1000


@given(names=NAMES, key=st.binary(max_size=8), count=st.integers(1, 60))
def test_one_hot_key_spills_before_a_name_has_more_than_its_bound(names: set[str], key: bytes, count: int) -> None:
    loads = dict.fromkeys(names, 0)
    for placed in range(1, count + 1):
        name = choose(key, loads)
        loads[name] += 1
        assert loads[name] <= math.ceil(LOAD_FACTOR * placed / len(names))
    assert sum(loads.values()) == count


def test_without_load_a_key_goes_to_its_first() -> None:
    names = ["a", "b", "c"]
    assert all(choose(key, dict.fromkeys(names, 0)) == ranked(key, names)[0] for key in KEYS)
