"""The process that decodes: reads jobs from standard input, answers on standard output.

    python -m vision_service.decoder.worker EXCHANGE_FD MEMORY_BYTES SECONDS

    service -> worker     a job's line on standard input; the file's bytes are in the exchange
    worker -> service     a line of JSON; the tiles are in the exchange
                          {"counts": [tiles of each part], "source_count": pages or frames of the file,
                           "size": [width, height]}
                          {"reason", "message", "field"}, and "leaving" if it ends after this answer

Once its libraries are loaded it confines itself: no more memory than it was given, and no file or socket can be opened
any more, so that a playlist or a container that refers elsewhere finds nothing. It knows none of the service's secrets:
the environment is empty but for where Python finds its modules.
"""

import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import BinaryIO

from internvl.errors import InvalidRequest
from vision_service.decoder.job import Job, job_from_line

READY = b"ready\n"
_LEEWAY_SECONDS = 5
"""After the time that the service allows: this process stops itself only if the service does not."""


def main() -> None:
    """Serves until standard input ends."""
    exchange, memory_bytes, seconds = os.fdopen(int(sys.argv[1]), "r+b", 0), int(sys.argv[2]), float(sys.argv[3])
    replies = os.fdopen(os.dup(1), "wb", 0)
    os.dup2(2, 1)  # whatever a library prints is no reply
    confine(memory_bytes)
    replies.write(READY)
    for line in sys.stdin.buffer:
        signal.alarm(int(seconds) + _LEEWAY_SECONDS)
        reply = answer(*job_from_line(line), exchange)
        signal.alarm(0)
        replies.write(json.dumps(reply).encode() + b"\n")
        if reply.get("leaving"):
            return


def confine(memory_bytes: int) -> None:
    """From here on: so much more memory (on Linux), and no new file descriptor."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        most = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def answer(job: Job, size_bytes: int, exchange: BinaryIO) -> dict[str, object]:
    """Reads the file from the exchange, leaves the tiles there."""
    exchange.seek(0)
    data = _read(exchange, size_bytes)
    exchange.seek(0)
    counts = []
    try:
        parts = job.parts(data)
        for part in parts.tiles:
            _write(exchange, part.data.cast("B"))
            counts.append(len(part))
    except InvalidRequest as error:
        return _refusal(error)
    except MemoryError:
        return _refusal(job.too_large()) | {"leaving": True}
    except Exception:  # noqa: BLE001 - on hostile bytes a decoder may raise anything
        traceback.print_exc()
        return _refusal(job.unreadable()) | {"leaving": True}
    return {"counts": counts, "source_count": parts.source_count, "size": parts.size}


def _refusal(error: InvalidRequest) -> dict[str, object]:
    return {"reason": error.reason(), "message": error.message, "field": error.field}


def _read(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    assert len(data) == size
    return data


def _write(file: BinaryIO, data: memoryview) -> None:
    while data:
        data = data[file.write(data) :]


if __name__ == "__main__":
    main()
