"""The ranks after the first: processes of this machine that are given every step and compute their part of it.

    rank 0, the service          rank 1, 2, ...
    Followers.start      ---->   a process: joins the group, loads its part
    Followers.send       ---->   the step, as bytes through a pipe
    forward              <-->    forward: sums over the ranks inside

A rank that dies ends all: the others cannot compute without it. Whoever is left in a sum gets an error from it or, on
GPUs, waits; so rank 0 watches the processes, and they watch their pipe.
"""

import logging
import multiprocessing
import multiprocessing.connection
import os
import queue
import signal
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import torch
import torch.distributed
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]

from llm_service.model.options import LoadedModel, ModelOptions
from llm_service.model.ranks.ranks import Ranks
from llm_service.model.step import StepInput
from shared.serving.telemetry import LoadingLog, configure_logging

log = logging.getLogger(__name__)
_SUM_TIMEOUT = timedelta(minutes=5)
"""How long a rank waits for the others inside one sum."""
_STOP_SECONDS = 10.0
_JOINED, _LOADED = b"joined", b"loaded"


class FollowerDied(RuntimeError):
    """A rank's process has ended; its own log says why."""


class Followers:
    """Rank 0's side. Without processes it does nothing: a model of one rank."""

    def __init__(self, processes: Sequence[BaseProcess] = (), pipes: Sequence[Connection] = ()) -> None:
        self.processes, self._pipes = processes, pipes
        self._closing = threading.Event()

    @classmethod
    def load(cls, options: ModelOptions, size: int, log_level: str) -> tuple["Followers", LoadedModel]:
        """Starts `size` - 1 processes, joins them in a group and loads all parts of the model at the same time.

        Raises FollowerDied, and ValueError for a model that cannot be loaded.
        """
        options, progress = options.resolved(), LoadingLog("language model")
        if size == 1:
            return cls(), options.load(Ranks(), progress)
        options.check(Ranks(0, size))
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        context = multiprocessing.get_context("spawn")
        processes, pipes = [], []
        for rank in range(1, size):
            own, theirs = context.Pipe()
            process = context.Process(
                target=follow,
                args=(options, rank, size, store.port, theirs, log_level),
                name=f"rank {rank}",
                daemon=True,
            )
            process.start()
            theirs.close()
            processes.append(process)
            pipes.append(own)
        followers = cls(processes, pipes)
        try:
            followers._expect(_JOINED)
            _join(options, 0, size, store)
            model = options.load(Ranks(0, size), progress)
            followers._expect(_LOADED)
        except BaseException:
            followers.close()
            raise
        return followers, model

    def send(self, inputs: StepInput) -> None:
        """Has every rank compute this step; rank 0 must do so too. Raises FollowerDied."""
        if not self._pipes:
            return
        data = inputs.to_bytes()
        for process, pipe in zip(self.processes, self._pipes, strict=True):
            try:
                pipe.send_bytes(data)
            except OSError as error:
                raise FollowerDied(f"{process.name} has ended") from error

    def watch(self, died: Callable[[str], None]) -> None:
        """Calls `died` with the reason, from a thread, when one of them ends before `close`."""

        def wait() -> None:
            names = {process.sentinel: process.name for process in self.processes}
            ended = multiprocessing.connection.wait(list(names))
            if not self._closing.is_set():
                died(f"{', '.join(names[sentinel] for sentinel in ended if isinstance(sentinel, int))} has ended")

        if self.processes:
            threading.Thread(target=wait, name="followers", daemon=True).start()

    def close(self) -> None:
        """Ends the processes."""
        self._closing.set()
        for pipe in self._pipes:
            pipe.close()
        for process in self.processes:
            process.join(_STOP_SECONDS)
            process.kill()
            process.join()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    def _expect(self, message: bytes) -> None:
        for process, pipe in zip(self.processes, self._pipes, strict=True):
            try:
                assert pipe.recv_bytes() == message
            except EOFError:
                raise FollowerDied(f"{process.name} has ended before it {message.decode()}; see its log") from None


def follow(options: ModelOptions, rank: int, size: int, port: int, pipe: Connection, log_level: str) -> None:
    """A follower's process, from start to end. Ends with its pipe, whatever it is doing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    configure_logging(f"llm rank {rank}", log_level)
    try:
        pipe.send_bytes(_JOINED)
        _join(options, rank, size, TCPStore("127.0.0.1", port, is_master=False))
        loaded = options.load(Ranks(rank, size), LoadingLog("language model"))
        cache = loaded.model.new_cache(loaded.page_count, loaded.page_size)
        steps: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=_receive, args=(pipe, steps), daemon=True).start()
        pipe.send_bytes(_LOADED)
        while True:
            loaded.model.forward(StepInput.from_bytes(steps.get()), cache)
    except Exception as error:
        log.critical("the rank died", exc_info=error)
        os._exit(1)


def _receive(pipe: Connection, steps: "queue.SimpleQueue[bytes]") -> None:
    """A sum that waits for a dead rank cannot be interrupted; ending the process can."""
    try:
        while True:
            steps.put(pipe.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)


def _join(options: ModelOptions, rank: int, size: int, store: Store) -> None:
    device = options.rank_device(rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # else gloo looks up the machine's name, which may lead anywhere
    torch.distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo", store=store, rank=rank, world_size=size, timeout=_SUM_TIMEOUT
    )
