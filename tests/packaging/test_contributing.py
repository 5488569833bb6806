"""CONTRIBUTING.md names files, targets and recipes that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
PATHS = sorted(set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:md|toml|lock))`", TEXT)))
LINKS = sorted(set(re.findall(r"\]\((?!http)([^)]+)\)", TEXT)))
TARGETS = sorted(set(re.findall(r"`make ([a-z-]+)", TEXT)))


@pytest.mark.parametrize("path", [*PATHS, *LINKS])
def test_paths_exist(path: str) -> None:
    if path == "tests/shared/store/test_framing.py":
        pytest.skip("an example of a name")
    assert (ROOT / path).exists()


@pytest.mark.parametrize("target", TARGETS)
def test_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


def later_the_recipe_of_a_sampling_option_names_each_file_that_knows_one() -> None:
    """`min_p` stands for any of them: no other hand-written module of the product may know it by name."""
    recipe = TEXT.split("### A sampling option")[1].split("###")[0]
    named = {path for path in PATHS if f"`{path}`" in recipe}
    folders = ("protos", "clients/python/internvl", "shared", "vision_service", "llm_service", "gateway")
    files = [path for folder in folders for suffix in ("py", "proto") for path in (ROOT / folder).rglob(f"*.{suffix}")]
    knowing = {str(path.relative_to(ROOT)) for path in files if re.search(r"\bmin_p\b", path.read_text("utf-8"))}
    assert {path for path in knowing if "_pb2" not in path} <= named
    assert len(named - {"docs/openai.md"}) <= 6
