"""What an operator may set, and what is refused before anything is loaded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vision_service.settings import VisionSettings


def settings(*flags: str) -> VisionSettings:
    return VisionSettings.from_command_line(["--model", "/m", *flags])


def test_devices() -> None:
    assert settings().device_names(cuda=False) == ["cpu"]
    assert settings().device_names(cuda=True) == ["cuda"]
    assert settings("--device", "cuda:0, cuda:1").device_names(cuda=True) == ["cuda:0", "cuda:1"]
    assert settings("--device", "cpu,cpu").device_names(cuda=True) == ["cpu", "cpu"]


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "cpu,cuda:0"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(ValueError, match="PyTorch sees no CUDA device"):
        settings("--device", device).device_names(cuda=False)


@pytest.mark.parametrize(
    "flags", [["--decode-workers", "0"], ["--decode-seconds", "0"], ["--decode-memory-bytes", "1000"]]
)
def test_values_out_of_range(flags: list[str]) -> None:
    with pytest.raises(ValueError, match=flags[0].removeprefix("--").replace("-", "_")):
        settings(*flags)


def test_the_command_says_in_one_line_what_is_wrong(tiny_checkpoint: Path) -> None:
    command = [sys.executable, "-m", "vision_service", "--model", str(tiny_checkpoint), "--port", "0"]
    ended = subprocess.run(
        [*command, "--device", "cuda"],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 2
    line = json.loads(ended.stderr.splitlines()[-1])
    assert line["cause"] == "device cuda: PyTorch sees no CUDA device (none is there, or it is built for CPUs)"
    assert "Traceback" not in ended.stderr
