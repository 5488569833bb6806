"""The retry budget."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.replicas.retry_budget import RetryBudget


@given(st.lists(st.booleans(), max_size=300), st.integers(0, 20))
def test_retries_never_exceed_the_burst_and_the_share(is_retry: list[bool], burst: int) -> None:
    budget = RetryBudget(0.2, burst)
    requests = granted = 0
    for retry in is_retry:
        if retry:
            granted += budget.withdraw()
        else:
            requests += 1
            budget.deposit()
        assert granted <= burst + 0.2 * requests + 1e-9


def test_the_share_comes_back() -> None:
    budget = RetryBudget(0.25, 1)
    assert budget.withdraw()
    for _ in range(4):
        assert not budget.withdraw()
        budget.deposit()
    assert budget.withdraw()
