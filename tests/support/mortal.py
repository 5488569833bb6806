"""Programs that end when the tests do, however these end."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.local import child


def mortal(command: Sequence[str]) -> list[str]:
    """The command behind a wrapper that stops it when this process dies. The first word must be a path."""
    return [sys.executable, "-I", "-S", str(Path(child.__file__)), str(os.getpid()), *command]
