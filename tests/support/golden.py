"""Cases made by running the reference code; each file's `meta` explains its fields."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "golden"


def load(name: str) -> Any:
    return json.loads((FOLDER / f"{name}_public.json").read_text("utf-8"))
