"""SIGTERM before a service serves: the process ends at once.

The first process of a container is not ended by SIGTERM unless it handles it, and to import modules and load a model
takes from seconds to minutes. `Server.run` replaces the handler by one that drains. Imports nothing heavy: it is
called before the imports that take so long.
"""

import os
import signal
from types import FrameType


def end_on_sigterm() -> None:
    """Ends the process with status 143, as shells report SIGTERM, until another handler is set."""
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)  # not SystemExit: cleaning up would wait for the thread that loads
