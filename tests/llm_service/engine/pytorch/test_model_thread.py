"""One thread computes, in order; what fails is heard by whoever asked."""

import threading
from concurrent.futures import wait

import pytest

from llm_service.engine.pytorch.model_thread import ModelThread


def test_all_work_is_done_by_one_other_thread_in_order() -> None:
    thread, order = ModelThread(), list[int]()

    def work(index: int) -> int:
        order.append(index)
        return threading.get_ident()

    futures = [thread.submit(lambda index=index: work(index)) for index in range(20)]  # type: ignore[misc]
    threads = {future.result() for future in futures}
    thread.close()
    assert order == list(range(20))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_a_failure_is_its_own() -> None:
    thread = ModelThread()

    def fail() -> None:
        raise ValueError("no such weight")

    failed, after = thread.submit(fail), thread.submit(lambda: 7)
    with pytest.raises(ValueError, match="no such weight"):
        failed.result()
    assert after.result() == 7
    thread.close()


def test_work_may_be_cancelled_until_it_begins() -> None:
    thread, may_end, has_begun = ModelThread(), threading.Event(), threading.Event()

    def work() -> bool:
        has_begun.set()
        return may_end.wait(5)

    running, queued = thread.submit(work), thread.submit(work)
    assert has_begun.wait(5)
    assert queued.cancel()
    assert not running.cancel(), "nobody can stop it"
    may_end.set()
    assert running.result()
    assert thread.submit(lambda: 7).result() == 7
    thread.close()


def test_closing_ends_the_thread_after_what_is_queued() -> None:
    thread = ModelThread()
    last = thread.submit(threading.current_thread)
    thread.close()
    wait([last])
    last.result().join(5)
    assert not last.result().is_alive()
