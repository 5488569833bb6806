"""The thread that loads the model and runs it, so that its team of processor threads is the only one of the process.

OpenMP gives each thread that computes a team of its own. As soon as the teams together have more threads than the
machine has cores, those that wait sleep where they would spin, and a decoding step, which is hundreds of short
operations, takes half as long again (docs/benchmarks.md). So nothing else in the process may compute on several cores.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class ModelThread:
    """Runs what it is given, one after the other. A daemon: a sum over ranks may wait for one that is gone."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._run, name="model", daemon=True).start()

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        """Queues `work`; the future has what it returns or raises. What is cancelled before its turn is not begun."""
        future: Future[T] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - the future has it
                future.set_exception(error)

        self._calls.put(call)
        return future

    def close(self) -> None:
        """Ends the thread after what is queued."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
