"""Wheels of this repository, and fresh environments to install them into, without a package index."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
OURS = ("internvl-client", "internvl-serving")


def build_wheel(source: Path, target: Path) -> Path:
    """The wheel of a project, built by hatchling into a folder of its own."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (wheel,) = target.glob("*.whl")
    return wheel


class Venv:
    """A fresh environment. Requirements of the wheels in it are linked from the environment that runs the tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._linked = folder / "linked"
        _uv("venv", "--quiet", "--python", sys.executable, str(folder))
        self._linked.mkdir()
        (self.site_packages / "linked.pth").write_text(f"{self._linked}\n")

    @property
    def site_packages(self) -> Path:
        (found,) = self.folder.glob("lib/python*/site-packages")
        return found

    def program(self, name: str) -> str:
        """Path of `python`, or of a command that a wheel has."""
        return str(self.folder / "bin" / name)

    def install(self, wheel: Path) -> None:
        """The wheel itself; what it requires is linked by `link`."""
        _uv("pip", "install", "--quiet", "--offline", "--no-deps", "--python", self.program("python"), str(wheel))

    def uninstall(self, name: str) -> None:
        """Removes a distribution that was installed."""
        _uv("pip", "uninstall", "--quiet", "--python", self.program("python"), name)

    def link(self, name: str) -> None:
        """All that the base install of a distribution of ours requires, and nothing more."""
        for each in _required(name, set()):
            for entry in _entries(each):
                target = self._linked / entry
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    target.symlink_to(str(each.locate_file(entry)))


def clean_environment() -> dict[str, str]:
    """The variables of this process without those that lead to this repository or set a client's options."""
    theirs = ("PYTHON", "INTERNVL_", "VIRTUAL_")
    return {name: value for name, value in os.environ.items() if not name.startswith(theirs)}


def _required(name: str, seen: set[str]) -> Iterator[Distribution]:
    """Installed distributions that `name` requires, directly or not, other than ours."""
    for line in distribution(name).requires or ():
        requirement = Requirement(line)
        wanted = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if wanted in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(wanted)
        if wanted not in OURS:
            yield distribution(wanted)
        yield from _required(wanted, seen)


def _entries(installed: Distribution) -> set[Path]:
    """Folders and files of a distribution directly in site-packages; in `google`, which several share, those within."""
    parts = [file.parts for file in installed.files or ()]
    return {Path(*each[: 2 if each[0] == "google" else 1]) for each in parts if each[0] not in ("..", "__pycache__")}


def _uv(*arguments: str) -> None:
    """`make setup` provides it, on PATH or in .uv."""
    program = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    subprocess.run([program, *arguments], check=True, capture_output=True, env=clean_environment())
