"""A program of the stack as a child process: its log, its progress, and how it is stopped.

A service says how far it is in its JSON log lines: `loading` with bytes, `serving` with its address.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

_WRAPPER = Path(__file__).with_name("child.py")
_MAX_LINE_BYTES = 1 << 20
_KEPT_LINES = 40
_SHOWN_LINES = 12


class LaunchError(RuntimeError):
    """The stack cannot run on this machine."""


class ServiceDied(LaunchError):
    """A process that ended without having been stopped."""

    def __init__(self, name: str, exit_code: int, last_lines: Sequence[str]) -> None:
        causes = [text for line in last_lines if (text := _cause(line))]
        lines = causes[-1:] or [_plain(line) for line in last_lines[-_SHOWN_LINES:]] or ["(it said nothing)"]
        super().__init__(f"{name} ended with exit code {exit_code}:" + "".join(f"\n  {line}" for line in lines))
        self.name = name
        self.exit_code = exit_code


class Child:
    """One process, its output read line by line."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log_path: Path, ready_text: str | None) -> None:
        self.name = name
        self.address = ""
        """host:port, once it serves on one."""
        self.http_address = ""
        """host:port of HTTP, once it serves there too."""
        self.metrics_address = ""
        """host:port of its metrics, once they are there."""
        self.loaded_fraction: float | None = None
        """Share of its weights that is loaded; None before the first."""
        self.ready_seconds: float | None = None
        """From its start until it served."""
        self.agreement: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Returns once both services behind a gateway serve the same model. Raises LaunchError if they do not."""
        self.stopping = False
        self.on_change: Callable[[Child], None] | None = None
        self._started = time.monotonic()
        self._process = process
        self._log = log_path.open("ab")
        self._ready_text = ready_text
        self._ready = asyncio.Event()
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        log_folder: Path,
        environment: Mapping[str, str] | None = None,
        ready_text: str | None = None,
    ) -> Self:
        """Starts `command` in a session of its own, so that a Ctrl-C in the terminal is not also its own."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(_WRAPPER), str(os.getpid()), *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            limit=_MAX_LINE_BYTES,
        )
        return cls(name, process, log_folder / f"{name}.log", ready_text)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def last_lines(self) -> list[str]:
        return list(self._lines)

    async def ready(self) -> None:
        """Returns when it serves."""
        await self._ready.wait()

    async def watch(self) -> None:
        """Returns when it was stopped. Raises ServiceDied when it ended by itself."""
        exit_code = await self._process.wait()
        await asyncio.wait([self._reading], timeout=1.0)
        if not self.stopping:
            raise ServiceDied(self.name, exit_code, self.last_lines)

    async def stop(self, seconds: float) -> None:
        """Asks it to end, gives it so long, then kills it and whatever it started."""
        self.stopping = True
        try:
            self._signal(signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._process.wait()
        finally:
            self._signal(signal.SIGKILL)
            await self._process.wait()
            await asyncio.wait([self._reading], timeout=1.0)
            self._reading.cancel()
            self._log.close()

    def _signal(self, number: signal.Signals) -> None:
        """To its process group while it runs; SIGKILL also to what it has left behind there."""
        if self._process.returncode is None or number is signal.SIGKILL:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:  # longer than a line can be; dropped by the reader
                continue
            if not line:
                return
            self._log.write(line)
            self._log.flush()
            self._notice(line.decode(errors="replace").rstrip())

    def _notice(self, line: str) -> None:
        self._lines.append(line)
        if self._ready_text is not None:
            if self._ready_text in line:
                self._serves("")
            return
        match _json(line):
            case {"message": "loading", "loaded_bytes": int(loaded), "total_bytes": int(total)} if total > 0:
                self.loaded_fraction = min(loaded / total, 1.0)
                self._changed()
            case {"message": "serving http", "address": str(address)}:
                self.http_address = address
            case {"message": "metrics", "address": str(address)}:
                self.metrics_address = address
            case {"message": "serving", "address": str(address)}:
                self._serves(address)
            case {"message": "backends agree"} if not self.agreement.done():
                self.agreement.set_result(None)
            case {"message": "backends not ready", "reason": "MODEL_MISMATCH", "cause": str(cause)} if (
                not self.agreement.done()
            ):
                self.agreement.set_exception(LaunchError(cause))

    def _serves(self, address: str) -> None:
        self.address = address
        self.loaded_fraction = 1.0
        self.ready_seconds = time.monotonic() - self._started
        self._ready.set()
        self._changed()

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change(self)


def _cause(line: str) -> str:
    """The reason in a service's last words, if this line has one."""
    match _json(line):
        case {"level": "CRITICAL", "message": str(message), **rest}:
            cause = rest.get("cause") or rest.get("exception") or ""
            return f"{message}: {str(cause).strip().splitlines()[-1]}" if cause else message
    return ""


def _plain(line: str) -> str:
    """A log line as a person reads it."""
    match _json(line):
        case {"message": str(message), **rest}:
            cause = rest.get("cause")
            return f"{message}: {cause}" if cause else message
    return line


def _json(line: str) -> object:
    if not line.startswith("{"):
        return None
    try:
        return json.loads(line)
    except ValueError:
        return None
