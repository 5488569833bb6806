"""Room for so many requests, and it comes back whatever happens."""

import pytest

from gateway.admission import Admission
from shared.errors import QueueFull


def test_beyond_the_limit_requests_are_refused() -> None:
    admission = Admission(2)
    with admission.enter(), admission.enter():
        with pytest.raises(QueueFull) as caught, admission.enter():
            pytest.fail("it was let in")
        assert caught.value.retry_after_seconds is not None
    assert admission.running == 0


def test_a_request_that_fails_makes_room() -> None:
    admission = Admission(1)
    with pytest.raises(ZeroDivisionError), admission.enter():
        raise ZeroDivisionError
    with admission.enter():
        assert admission.running == 1
