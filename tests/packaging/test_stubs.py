"""The committed stubs are what the contracts generate, and the check that says so names every kind of drift."""

import subprocess
import sys
from pathlib import Path

from protos.generate import differences


def test_the_committed_stubs_are_fresh() -> None:
    check = subprocess.run([sys.executable, "-m", "protos.generate", "--check"], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout + check.stderr


def test_missing_extra_and_different_stubs_are_named() -> None:
    fresh = {Path("a_pb2.py"): b"1", Path("b_pb2.py"): b"1", Path("c_pb2.py"): b"1"}
    committed = {Path("b_pb2.py"): b"2", Path("c_pb2.py"): b"1", Path("d_pb2.py"): b"1"}
    assert differences(fresh, committed) == [
        "missing: clients/python/internvl/a_pb2.py",
        "different: clients/python/internvl/b_pb2.py",
        "extra: clients/python/internvl/d_pb2.py",
    ]
