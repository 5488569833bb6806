"""Draws docs/architecture.md's images from the code: python -m docs.drawings.draw [--check]

The house comes from the imports between packages. The two paths name modules in the order in which an image or a token
meets them; captions are the modules' own docstrings. With --check nothing is written, and what is stale is named.
"""

import argparse
import ast
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from textwrap import wrap
from xml.sax.saxutils import escape

import grimp

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
LAYERS = [["deploy"], ["gateway", "vision_service", "llm_service"], ["shared"], ["internvl"]]
STUBS = ("internvl.chat", "internvl.common", "internvl.llm", "internvl.vision")

IMAGE = [
    ("client", "internvl.client.session"),
    ("client", "internvl.client.chat_client"),
    ("gateway", "gateway.servicer"),
    ("gateway", "gateway.tenancy.admission"),
    ("gateway", "gateway.chat"),
    ("gateway", "gateway.media.files"),
    ("gateway", "gateway.replicas.backends"),
    ("vision", "vision_service.servicer"),
    ("vision", "vision_service.encoder"),
    ("vision", "vision_service.decoder.pool"),
    ("vision", "vision_service.image"),
    ("vision", "vision_service.tiles"),
    ("vision", "vision_service.batcher"),
    ("vision", "vision_service.model.tower"),
    ("vision", "vision_service.copies.write_behind"),
    ("store", "shared.store.embedding_store"),
    ("llm", "llm_service.embeddings"),
]
TOKEN = [
    ("gateway", "gateway.replicas.backends"),
    ("llm", "llm_service.servicer"),
    ("llm", "llm_service.generation"),
    ("llm", "llm_service.prompt"),
    ("llm", "llm_service.positions"),
    ("llm", "llm_service.engine.pytorch.scheduler"),
    ("llm", "llm_service.engine.pytorch.step_input"),
    ("llm", "llm_service.model.language"),
    ("llm", "llm_service.engine.pytorch.sampler"),
    ("llm", "llm_service.engine.pytorch.engine"),
    ("llm", "llm_service.detokenizer"),
    ("gateway", "gateway.replicas.reply"),
    ("gateway", "gateway.chat"),
    ("gateway", "gateway.servicer"),
    ("client", "internvl.client.chat_client"),
    ("client", "internvl.client.session"),
]
LANES = {"client": "client", "gateway": "gateway", "vision": "vision service", "store": "Redis", "llm": "LLM service"}
COLOURS = {
    "deploy": "#fdf3e1", "gateway": "#e7f0fb", "vision_service": "#e8f6ea", "llm_service": "#f3ecfb",
    "shared": "#f2f2f0", "internvl": "#fbe9ec", "client": "#fbe9ec", "vision": "#e8f6ea", "llm": "#f3ecfb",
    "store": "#f2f2f0",
}  # fmt: skip
STYLE = """<style>
text{font-family:Helvetica,Arial,sans-serif;fill:#222}
.name{font-size:16px;font-weight:bold} .lane{font-size:15px;font-weight:bold} .caption{font-size:12px;fill:#555}
.module{font-size:11.5px;font-weight:bold} .small{font-size:11px;fill:#444}
.arrow{fill:none;stroke:#8a8a8a;stroke-width:1.4}
</style>"""
HEAD = """<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0L8 4L0 8z" fill="#8a8a8a"/></marker></defs>"""


@dataclass(frozen=True)
class Box:
    """A rectangle, in pixels."""

    x: float
    y: float
    width: float
    height: float

    @property
    def centre(self) -> float:
        return self.x + self.width / 2


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.drawings.draw", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a drawing is stale")
    check = parser.parse_args().check
    drawings = {"house.svg": house(), "image.svg": path(IMAGE), "token.svg": path(TOKEN)}
    stale = [name for name, svg in drawings.items() if not _is(FOLDER / name, svg)]
    if not check:
        for name in stale:
            (FOLDER / name).write_text(drawings[name], "utf-8")
    print("\n".join(stale) or f"{len(drawings)} drawings are fresh")
    if check and stale:
        sys.exit("Run `make drawings` and commit what it changes.")


def house() -> str:
    """Packages in their layers, their rooms, and how many modules each imports of the others."""
    packages = [package for layer in LAYERS for package in layer]
    graph = grimp.build_graph(*packages, cache_dir=None)
    width, margin, top = 1120.0, 24.0, 24.0
    boxes, shapes, y = {}, [], top
    for layer in LAYERS:
        each = (width - 2 * margin - 28 * (len(layer) - 1)) / len(layer)
        columns = 1 if len(layer) > 1 else 4
        contents = {package: _rooms(package) for package in layer}
        rows = max(-(-len(rooms) // columns) for rooms in contents.values())
        height = 62.0 + 46 * rows
        for index, (package, rooms) in enumerate(contents.items()):
            box = boxes[package] = Box(margin + index * (each + 28), y, each, height)
            shapes += _package(package, box, rooms, columns)
        y += height + 64
    for source, box in boxes.items():
        counts = {target: _import_count(graph, source, target) for target in packages if target != source}
        found = {target: count for target, count in counts.items() if count}
        shapes += [_arrow(box, boxes[target]) for target in found if 0 < boxes[target].y - box.y - box.height < 100]
        label = " \u00b7 ".join(f"{target} {count}" for target, count in found.items())
        if label:
            shapes.append(_text(box.x + box.width - 14, box.y + 24, f"imports {label}", "small", anchor="end"))
    return _svg(width, y - 64 + top, shapes)


def path(steps: list[tuple[str, str]]) -> str:
    """Steps from top to bottom, each in the lane of its process."""
    lanes = [lane for lane in LANES if any(lane == each for each, _ in steps)]
    lane_width, row, top = 1120.0 / len(lanes), 66.0, 56.0
    height = top + row * len(steps) + 16
    shapes = []
    for index, lane in enumerate(lanes):
        shapes.append(_rectangle(Box(index * lane_width + 4, 8, lane_width - 8, height - 16), COLOURS[lane], 10))
        shapes.append(_text(index * lane_width + lane_width / 2, 34, LANES[lane], "lane"))
    boxes = []
    for index, (lane, _) in enumerate(steps):
        x = lanes.index(lane) * lane_width + 14
        boxes.append(Box(x, top + index * row, lane_width - 28, row - 16))
    for before, after in pairwise(boxes):
        shapes.append(_step(before, after))
    for number, (box, (_, module)) in enumerate(zip(boxes, steps, strict=True), 1):
        shapes += _card(box, f"{number}  {_short(module)}", _caption(module))
    return _svg(1120, height, shapes)


def _rooms(package: str) -> list[tuple[str, str]]:
    """Each room of a package with its first line, the package's own modules first."""
    folder = _folder(package)
    own = [path.stem for path in sorted(folder.glob("*.py")) if not path.stem.startswith("__")]
    rooms = [(", ".join(own), "")] if own else []
    for init in sorted(folder.glob("*/__init__.py")):
        name = f"{package}.{init.parent.name}"
        if name not in STUBS:
            rooms.append((f"{init.parent.name}/", _caption(name)))
    return [*rooms, ("chat/ common/ vision/ llm/", "Generated stubs.")] if package == "internvl" else rooms


def _package(package: str, box: Box, rooms: list[tuple[str, str]], columns: int) -> list[str]:
    shapes = [
        _rectangle(box, COLOURS[package], 10),
        _text(box.x + 14, box.y + 24, package, "name", anchor="start"),
        _text(box.x + 14, box.y + 42, _fit(_caption(package), box.width - 28, 5.6), "caption", anchor="start"),
    ]
    each = (box.width - 28 - 12 * (columns - 1)) / columns
    for index, (name, caption) in enumerate(rooms):
        column, row = index % columns, index // columns
        place = Box(box.x + 14 + column * (each + 12), box.y + 54 + row * 46, each, 38)
        shapes += _card(place, name, caption)
    return shapes


def _card(box: Box, name: str, caption: str) -> list[str]:
    """A white card: a name, and a caption of up to two lines or a name that takes both."""
    shapes = [_rectangle(box, "#ffffff", 5)]
    if not caption:
        lines = wrap(name, int((box.width - 16) / 5.2), max_lines=2, placeholder=" ...")
        return shapes + [_text(box.x + 8, box.y + 15 + 14 * i, line, "small") for i, line in enumerate(lines)]
    shapes.append(_text(box.x + 8, box.y + 15, _fit(name, box.width - 16, 6.6), "module"))
    lines = wrap(caption, int((box.width - 16) / 5.0), max_lines=2 if box.height > 44 else 1, placeholder=" ...")
    return shapes + [_text(box.x + 8, box.y + 29 + 13 * i, line, "small") for i, line in enumerate(lines)]


def _arrow(source: Box, target: Box) -> str:
    """From a package to one in the layer below it, straight down where both are wide enough."""
    x = target.centre if target.width < source.width else source.centre
    start, end = source.y + source.height, target.y - 3
    return f'<path d="M{x:.0f} {start:.0f} V{end:.0f}" class="arrow" marker-end="url(#head)"/>'


def _step(before: Box, after: Box) -> str:
    """From a card to the next one, down or across lanes."""
    y1, y2 = before.y + before.height, after.y - 3
    x1, x2 = before.centre, after.centre
    middle = (y1 + y2) / 2
    return f'<path d="M{x1:.0f} {y1:.0f} V{middle:.0f} H{x2:.0f} V{y2:.0f}" class="arrow" marker-end="url(#head)"/>'


def _rectangle(box: Box, colour: str, radius: int) -> str:
    size = f'x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" height="{box.height:.0f}"'
    return f'<rect {size} rx="{radius}" fill="{colour}" stroke="#cccccc"/>'


def _svg(width: float, height: float, shapes: list[str]) -> str:
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}">'
    background = f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>'
    return "\n".join([opening, STYLE, HEAD, background, *shapes, "</svg>\n"])


def _text(x: float, y: float, text: str, kind: str, *, anchor: str = "") -> str:
    anchor = anchor or ("middle" if kind == "lane" else "start")
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _fit(text: str, width: float, per_character: float) -> str:
    return wrap(text, max(int(width / per_character), 8), max_lines=1, placeholder=" ...")[0]


def _caption(module: str) -> str:
    """First sentence of its docstring."""
    file = _folder(module)
    file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split()).partition(". ")[0].rstrip(".").replace("`", "")


def _short(module: str) -> str:
    return module.partition(".")[2].replace(".", "/")


def _folder(module: str) -> Path:
    root = ROOT / "clients" / "python" if module.startswith("internvl") else ROOT
    return root.joinpath(*module.split("."))


def _import_count(graph: grimp.ImportGraph, source: str, target: str) -> int:
    if source == target:
        return 0
    modules = {name for name in graph.modules if name == source or name.startswith(f"{source}.")}
    found = {each for name in modules for each in graph.find_modules_directly_imported_by(name)}
    return sum(each == target or each.startswith(f"{target}.") for each in found)


def _is(file: Path, content: str) -> bool:
    return file.is_file() and file.read_text("utf-8") == content


if __name__ == "__main__":
    main()
