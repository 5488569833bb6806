"""The drawings of docs/architecture.md are what the code says."""

import subprocess
import sys
from pathlib import Path

from docs.drawings.draw import IMAGE, TOKEN

ROOT = Path(__file__).parents[2]


def test_the_drawings_are_fresh() -> None:
    check = subprocess.run([sys.executable, "-m", "docs.drawings.draw", "--check"], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout + check.stderr


def test_each_drawing_is_shown() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    shown = {path.name for path in (ROOT / "docs" / "drawings").glob("*.svg") if f"drawings/{path.name}" in text}
    assert shown == {"house.svg", "image.svg", "token.svg"}


def test_a_path_meets_no_module_of_another_process() -> None:
    """A lane is a process: only its own package, `shared` or the client may stand in it."""
    own = {"client": "internvl", "vision": "vision_service", "llm": "llm_service", "store": "shared"}
    assert [step for step in (*IMAGE, *TOKEN) if step[1].partition(".")[0] != own.get(step[0], step[0])] == []
