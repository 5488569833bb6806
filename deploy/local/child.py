"""Becomes another program, which gets SIGTERM when its parent dies, however the parent dies.

    python -I -S child.py PARENT_PID PROGRAM ARGUMENT...

Run as a script; needs the standard library only. Linux keeps the promise; elsewhere the program is just run.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Arranges for the signal, then replaces this process."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(1)
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
