"""Every package is a room: its docstring names each of its modules in a line, and it holds no more than can be seen."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOPS = ["clients/python/internvl", "shared", "vision_service", "llm_service", "gateway", "deploy", "bench"]
PACKAGES = sorted(path.parent for top in TOPS for path in (ROOT / top).rglob("__init__.py") if path.stat().st_size > 0)
MODULES = sorted(path for package in PACKAGES for path in package.glob("*.py"))
MAX_MODULES = 12
MAX_LINES = 300


def entries(package: Path) -> list[str]:
    """Modules and packages directly inside, without `__init__` and `__main__`."""
    modules = [path.stem for path in package.glob("*.py") if not path.stem.startswith("__")]
    return sorted(modules + [path.parent.name for path in package.glob("*/__init__.py")])


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_docstring_names_each_module(package: Path) -> None:
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8"))) or ""
    named = {
        name
        for line in text.splitlines()
        if (head := re.match(r"([\w, ]+?)(?:\.py)?  ", line))
        for name in head[1].split(", ")
    }
    assert set(entries(package)) <= named


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_holds_at_most_twelve_modules(package: Path) -> None:
    assert len(list(package.glob("[!_]*.py"))) <= MAX_MODULES


def test_no_module_is_longer_than_three_hundred_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in MODULES}
    assert {name: count for name, count in lengths.items() if count > MAX_LINES} == {}
