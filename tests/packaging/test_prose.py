"""The prose of docstrings, log lines, error texts and pages keeps to docs/prose.md, as far as a program can see."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPENINGS = re.compile(r"(Of|What|Whose|Who|Which)\b")
TURNS = re.compile(
    r"\b(anew|as it is|that is none|that are none|comes to|[Ww]hoever|[Nn]obody|[Ss]omebody|[Ss]trangers?|is told|"
    r"never heard of|(?:still|now|files?|settings?) counts?(?= |\.|;|,)|"
    r"(?:goes|go) on (?:elsewhere|where|with|after|at)|[Pp]ictures?|[Cc]lips?)\b"
)
UNFINISHED: tuple[str, ...] = ("deploy/local/demo_model/",)
PROGRAMS = [
    path
    for path in subprocess.run(
        ["git", "ls-files", "*.py"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.splitlines()
    if not path.startswith(("tests/", *UNFINISHED)) and "/v1/" not in path
]
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_written_plainly(name: str) -> None:
    tree = ast.parse((ROOT / name).read_text("utf-8"))
    found = [f"{line}: {text}" for line, text in docstrings(tree) if OPENINGS.match(text) or TURNS.search(plain(text))]
    found += [f"{line}: {text}" for line, text in messages(tree) if TURNS.search(plain(text))]
    assert found == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_written_plainly(name: str) -> None:
    if name == "docs/prose.md":
        pytest.skip("names the turns")
    lines = enumerate((ROOT / name).read_text("utf-8").splitlines(), 1)
    assert [f"{number}: {line}" for number, line in lines if TURNS.search(plain(line))] == []


def plain(text: str) -> str:
    """Without names of code, and without the video coders' groups of pictures."""
    return re.sub(r"`[^`]*`|^\w+(?=  )|--pictures\b|pictures=\S+|groups? of pictures", "", text, flags=re.MULTILINE)


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Each string that stands by itself: of a module, a class, a function or a field."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def messages(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Each text in a log call or a raised error."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log.")):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                    yield inner.lineno, inner.value
