"""Starts the ranks of a model. Those after the first are processes of this machine that are given every step.

    rank 0, the service          rank 1, 2, ...
    start                ---->   a process: joins the group, loads its part
    FirstRank.send       ---->   the step, as bytes through a pipe
    forward              <-->    forward: sums over the ranks inside

A rank that dies ends all: the others cannot compute without it. Those left in a sum get an error from it or, on GPUs,
wait; so rank 0 watches the processes, and they watch their pipe.
"""

import logging
import multiprocessing
import multiprocessing.connection
import os
import queue
import signal
import threading
from collections.abc import Callable
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


class RankDied(RuntimeError):
    """A rank's process has ended; its own log says why."""


def start(options: ModelOptions, size: int, log_level: str) -> LoadedModel:
    """Loads a model on `size` ranks, all parts at the same time. Its `ranks` are closed by the caller.

    Call it in the thread that will compute. Raises RankDied, and ValueError for a model that cannot be loaded.
    """
    alone, progress = Ranks(0, size), LoadingLog("language model")
    hardware = options.hardware(alone)
    if size == 1:
        return options.load(hardware, alone, progress)
    options.check(hardware, alone)
    ranks = FirstRank(options.settled(hardware), size, log_level)
    try:
        ranks.join_group(options.rank_device(0))
        loaded = options.load(hardware, ranks, progress)
        ranks.expect(_LOADED)
    except BaseException:
        ranks.close()
        raise
    return loaded


class FirstRank(Ranks):
    """Rank 0 of several, which starts the processes of the others and ends them."""

    def __init__(self, options: ModelOptions, size: int, log_level: str) -> None:
        super().__init__(0, size)
        self.processes: list[BaseProcess] = []
        self._pipes: list[Connection] = []
        self._closing = threading.Event()
        self._store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        context = multiprocessing.get_context("spawn")
        for rank in range(1, size):
            own, theirs = context.Pipe()
            process = context.Process(
                target=follow,
                args=(options, rank, size, self._store.port, theirs, log_level),
                name=f"rank {rank}",
                daemon=True,
            )
            process.start()
            theirs.close()
            self.processes.append(process)
            self._pipes.append(own)

    def join_group(self, device: torch.device) -> None:
        """Waits for the processes, and joins them in torch.distributed's group. Raises RankDied."""
        self.expect(_JOINED)
        _join(self, device, self._store)

    def expect(self, message: bytes) -> None:
        """Waits for a message of every process. Raises RankDied."""
        for process, pipe in zip(self.processes, self._pipes, strict=True):
            try:
                assert pipe.recv_bytes() == message
            except EOFError:
                raise RankDied(f"{process.name} has ended before it {message.decode()}; see its log") from None

    def send(self, step: StepInput) -> None:
        data = step.to_bytes()
        for process, pipe in zip(self.processes, self._pipes, strict=True):
            try:
                pipe.send_bytes(data)
            except OSError as error:
                raise RankDied(f"{process.name} has ended") from error

    def watch(self, died: Callable[[str], None]) -> None:
        def wait() -> None:
            names = {process.sentinel: process.name for process in self.processes}
            ended = multiprocessing.connection.wait(list(names))
            if not self._closing.is_set():
                died(f"{', '.join(names[sentinel] for sentinel in ended if isinstance(sentinel, int))} has ended")

        threading.Thread(target=wait, name="ranks", daemon=True).start()

    def close(self) -> None:
        self._closing.set()
        for pipe in self._pipes:
            pipe.close()
        for process in self.processes:
            process.join(_STOP_SECONDS)
            process.kill()
            process.join()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def follow(options: ModelOptions, rank: int, size: int, port: int, pipe: Connection, log_level: str) -> None:
    """The process of a rank after the first, from start to end. Ends with its pipe, whatever it is doing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    configure_logging(f"llm rank {rank}", log_level)
    ranks = Ranks(rank, size)
    try:
        pipe.send_bytes(_JOINED)
        _join(ranks, options.rank_device(rank), TCPStore("127.0.0.1", port, is_master=False))
        loaded = options.load(options.hardware(ranks), ranks, LoadingLog("language model"))
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


def _join(ranks: Ranks, device: torch.device, store: Store) -> None:
    if device.type == "cuda":
        torch.cuda.set_device(device)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # else gloo looks up the machine's name, which may lead anywhere
    torch.distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=store,
        rank=ranks.rank,
        world_size=ranks.size,
        timeout=_SUM_TIMEOUT,
    )
