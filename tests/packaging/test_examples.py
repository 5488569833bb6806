"""The examples say how they are called, and read the variables that the command line reads.

That they run is tested against a stack, in tests/integration/test_stack.py.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_without_arguments_it_prints_its_usage(path: Path) -> None:
    run = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert f"python examples/{path.name} IMAGE [HOST:PORT]" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_it_reads_only_variables_of_the_command_line(path: Path) -> None:
    """Any other INTERNVL_ variable makes the services refuse to start."""
    options = (ROOT / "clients/python/internvl/cli/option_groups.py").read_text("utf-8")
    known = set(re.findall(r'envvar="(\w+)"', options))
    assert set(re.findall(r"INTERNVL_\w+", path.read_text("utf-8"))) <= known
