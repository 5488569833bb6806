"""Ejection and return, on a clock of the test's own."""

from gateway.replicas.health import CALM_SECONDS, MISSED_CHECKS, ReplicaHealth
from tests.support.fakes import model_info

INFO = model_info()


def present(now: float = 0.0) -> ReplicaHealth:
    health = ReplicaHealth()
    health.check_passed(INFO, now)
    return health


def test_absent_until_checked() -> None:
    health = ReplicaHealth()
    assert not health.is_usable
    health.check_passed(INFO, 0.0)
    assert health.is_usable


def test_a_refusal_makes_it_absent_at_once_and_silence_after_some_time() -> None:
    refused, silent = present(), present()
    refused.check_failed(refused=True)
    assert (refused.is_usable, refused.info, refused.last_info) == (False, None, INFO)
    for missed in range(1, MISSED_CHECKS + 1):
        silent.check_failed(refused=False)
        assert silent.is_usable == (missed < MISSED_CHECKS)


def test_a_failed_call_ejects_until_a_check_after_the_pause() -> None:
    health = present()
    health.call_failed(100.0)
    health.check_passed(INFO, 100.1)
    assert not health.is_usable
    health.check_passed(INFO, 100.6)
    assert health.is_usable


def test_ejections_in_a_row_last_longer_and_calm_forgets_them() -> None:
    health, now, lengths = present(), 100.0, []
    for _ in range(4):
        health.call_failed(now)
        left = health.seconds_until_return(now)
        assert left is not None
        lengths.append(left)
        now += left + 0.001
        health.check_passed(INFO, now)
        assert health.is_usable
    for index, length in enumerate(lengths):
        assert 0.25 * 2**index <= length <= 0.5 * 2**index
    now += CALM_SECONDS + 0.001  # in floating point a difference of sums may come out smaller
    health.call_failed(now)
    left = health.seconds_until_return(now)
    assert left is not None
    assert left <= 0.5


def test_more_failures_of_one_ejection_do_not_lengthen_it() -> None:
    health = present()
    health.call_failed(100.0)
    left = health.seconds_until_return(100.0)
    for _ in range(50):
        health.call_failed(100.0)
    assert health.seconds_until_return(100.0) == left
