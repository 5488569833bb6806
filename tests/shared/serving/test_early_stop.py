"""SIGTERM ends a service at once that is not serving yet, also where it is the first process of a container."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SECONDS = 60.0
"""Of a busy machine."""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("service", ["gateway", "vision_service", "llm_service"])
def test_sigterm_is_handled_before_anything_heavy_is_imported(service: str) -> None:
    with subprocess.Popen([sys.executable, "-m", service], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + SECONDS
        while not _handles_sigterm(process.pid):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 128 + signal.SIGTERM, "by the handler: without one it were -15"


def test_sigterm_ends_a_thread_that_loads_and_does_not_return() -> None:
    program = """
import threading, time
from shared.serving.early_stop import end_on_sigterm
end_on_sigterm()
threading.Thread(target=time.sleep, args=(600,)).start()
import asyncio
print("loading", flush=True)
asyncio.run(asyncio.sleep(600))
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"loading\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 128 + signal.SIGTERM


def _handles_sigterm(pid: int) -> bool:
    """SigCgt is a mask of the signals that a process handles, in base 16."""
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)
