"""Ejection and return, on a clock of the test's own."""

from gateway.replicas.health import CALM_SECONDS, MISSED_CHECKS, ReplicaHealth, Report, StallBound
from tests.support.fakes import model_info

INFO = model_info()
IDLE = Report(INFO, 0.0)


def present(now: float = 0.0) -> ReplicaHealth:
    health = ReplicaHealth(StallBound(10.0))
    health.check_passed(IDLE, now)
    return health


def test_absent_until_checked() -> None:
    health = ReplicaHealth(StallBound(10.0))
    assert not health.is_usable
    health.check_passed(IDLE, 0.0)
    assert health.is_usable


def test_a_refusal_makes_it_absent_at_once() -> None:
    health = present()
    health.check_refused()
    assert (health.is_usable, health.is_silent, health.info, health.last_info) == (False, False, None, INFO)


def test_silence_makes_it_unusable_at_once_and_absent_after_some_time() -> None:
    health = present()
    for missed in range(1, MISSED_CHECKS + 1):
        health.check_missed()
        assert (health.is_usable, health.is_answering, health.is_silent) == (False, False, True)
        assert (health.info is None) == (missed == MISSED_CHECKS)
    health.check_passed(IDLE, 100.0)
    assert health.is_usable


def test_a_failed_call_ejects_until_a_check_after_the_pause() -> None:
    health = present()
    health.call_failed(100.0)
    health.check_passed(IDLE, 100.1)
    assert not health.is_usable
    health.check_passed(IDLE, 100.6)
    assert health.is_usable


def test_ejections_in_a_row_last_longer_and_calm_forgets_them() -> None:
    health, now, lengths = present(), 100.0, []
    for _ in range(4):
        health.call_failed(now)
        left = health.seconds_until_return(now)
        assert left is not None
        lengths.append(left)
        now += left + 0.001
        health.check_passed(IDLE, now)
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


def test_a_device_that_does_not_return_makes_it_unusable_until_it_does() -> None:
    health = present()
    for age, usable in ((9.0, True), (11.0, False), (12.0, False), (0.5, True)):
        health.check_passed(Report(INFO, age), 100.0)
        assert (health.is_usable, health.is_stalled) == (usable, not usable)


def test_what_is_normal_is_learned_from_work_that_ends() -> None:
    """All replicas of a service share the bound: one may be the first to have a long step."""
    bound = StallBound(10.0)
    one, other = ReplicaHealth(bound), ReplicaHealth(bound)
    for age in (5.0, 15.0, 30.0, 0.0):
        one.check_passed(Report(INFO, age), 100.0)
    other.check_passed(Report(INFO, 59.0), 100.0)
    assert other.is_usable
    other.check_passed(Report(INFO, 61.0), 100.0)
    assert other.is_stalled


def test_work_that_ended_with_its_process_teaches_nothing() -> None:
    health = present()
    health.check_passed(Report(INFO, 60.0), 100.0)
    health.check_refused()
    health.check_passed(IDLE, 101.0)
    health.check_passed(Report(INFO, 11.0), 102.0)
    assert health.is_stalled


def test_the_time_that_a_process_was_stopped_for_teaches_nothing() -> None:
    health = present()
    health.check_missed()
    health.check_passed(Report(INFO, 60.0), 100.0)
    assert health.is_usable
    health.check_passed(IDLE, 101.0)
    health.check_passed(Report(INFO, 11.0), 102.0)
    assert health.is_stalled
