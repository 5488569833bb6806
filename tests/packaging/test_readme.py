"""The README names what exists, and its snippets are programs."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PATHS = sorted(set(re.findall(r"`([a-z_]+/[a-z_/]*(?:\.py)?)`", README)))
LINKS = sorted(set(re.findall(r"\]\((?!http)([^)]+)\)", README)))


@pytest.mark.parametrize("path", [*PATHS, *LINKS])
def test_paths_exist(path: str) -> None:
    places = [ROOT / path, ROOT / "tests" / path, ROOT / "llm_service" / path]
    assert any(place.exists() for place in places)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippets_parse_and_import_what_exists(snippet: str) -> None:
    for node in ast.walk(ast.parse(snippet)):
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"`make ([a-z-]+)`", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_first_screen_shows_a_demo_that_ran() -> None:
    """The questions that the demo asks, and figures it printed."""
    from deploy.local.demo import QUESTIONS

    first_screen = "\n".join(README.splitlines()[:60])
    assert all(question in first_screen for question in QUESTIONS)
    assert "first token after" in first_screen
