"""The moment a request must be done by."""

import pytest

from internvl.errors import DeadlineExceeded
from internvl.transport.deadline import Deadline


def test_without_a_limit_nothing_is_passed_on() -> None:
    assert Deadline.after(None).remaining() is None


def test_what_is_left_shrinks() -> None:
    deadline = Deadline.after(5.0)
    first, second = deadline.remaining(), deadline.remaining()
    assert first is not None
    assert second is not None
    assert 5.0 >= first >= second > 4.0


def test_a_deadline_that_passed_stops_the_next_call() -> None:
    with pytest.raises(DeadlineExceeded):
        Deadline.after(-0.1).remaining()
