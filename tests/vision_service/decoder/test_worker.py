"""The process itself: confined, light, and gone when its service is."""

import os
import resource
import subprocess
import sys
from pathlib import Path


def test_a_confined_process_opens_nothing(tmp_path: Path) -> None:
    script = """
import errno, os, socket, sys
from vision_service.decoder.worker import confine
confine(1 << 28)
for attempt in (lambda: open(sys.argv[1]), socket.socket, os.pipe):
    try:
        attempt()
    except OSError as error:
        assert error.errno == errno.EMFILE, error
    else:
        sys.exit("opened something")
try:
    bytearray(1 << 29)
except MemoryError:
    sys.exit(0)
sys.exit("had the memory")
"""
    (tmp_path / "file").touch()
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "file")], check=True)


def test_a_worker_is_light() -> None:
    script = """
import sys, vision_service.decoder.worker
sys.exit(any(name in sys.modules for name in ("torch", "grpc", "transformers", "redis", "pydantic")))
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_worker_ends_with_its_service() -> None:
    read, write = os.pipe()
    arguments = [sys.executable, "-m", "vision_service.decoder.worker", str(os.memfd_create("e")), "1000000000", "1"]
    with subprocess.Popen(arguments, stdin=read, stdout=subprocess.PIPE, pass_fds=[int(arguments[3])]) as worker:
        os.close(read)
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
        os.close(write)
        assert worker.wait(timeout=60) == 0
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0  # the limit is the worker's alone


def test_pyav_is_loaded_before_decord() -> None:
    """decord gives its FFmpeg to all libraries that follow; PyAV is to run on its own."""
    versions = "print(av.library_versions, av.ffmpeg_version_info)"
    alone = subprocess.run([sys.executable, "-c", f"import av; {versions}"], capture_output=True, check=True)
    script = f"""
import sys, vision_service.decoder.worker, av
assert list(sys.modules).index("av._core") < list(sys.modules).index("decord")
{versions}
"""
    beside = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert beside.stdout == alone.stdout
