"""The table, the plot, and pictures of failures."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import matplotlib
from matplotlib.figure import Figure

from deploy.local.demo_model.talk.examples import Exchange, Picture
from llm_service.positions import TICKS

Results = dict[str, dict[str, float]]
"""Row to increment to share of right replies."""

COLUMNS = 4


def fraction(ticks: int) -> str:
    """An increment as people write it."""
    return "1" if ticks == TICKS else f"1/{TICKS // ticks}"


def table(results: Results) -> str:
    """Markdown: a line for each row, a column for each increment."""
    increments = list(next(iter(results.values())))
    lines = [f"| skill | {' | '.join(increments)} |", "|---|" + "---|" * len(increments)]
    lines += [f"| {row} | {' | '.join(f'{share:.0%}' for share in by.values())} |" for row, by in results.items()]
    return "\n".join(lines) + "\n"


def plot(results: Results, path: Path) -> None:
    """Bars by row, a shade for each increment."""
    increments = list(next(iter(results.values())))
    figure = Figure(figsize=(8, 0.32 * len(results) + 1), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(increments)
    for index, increment in enumerate(increments):
        places = [row + height * (index - (len(increments) - 1) / 2) for row in range(len(results))]
        shares = [100 * by[increment] for by in results.values()]
        shade = matplotlib.colormaps["viridis"](index / max(1, len(increments)))
        axes.barh(places, shares, height, color=shade, label=f"increment {increment}")
    axes.set_yticks(range(len(results)), list(results))
    axes.invert_yaxis()
    axes.set(xlabel="right replies, %", xlim=(0, 100))
    axes.axvline(95, color="grey", linewidth=0.8, linestyle="--")
    axes.legend(fontsize=7, loc="lower left")
    figure.savefig(path, dpi=100)


def failure_sheet(failures: Sequence[tuple[str, Sequence[Exchange], str]], path: Path) -> None:
    """Pictures of wrong replies: what was asked, expected and said."""
    shown = [(row, exchanges, reply) for row, exchanges, reply in failures if pictures(exchanges)]
    if not shown:
        return
    lines = -(-len(shown) // COLUMNS)
    figure = Figure(figsize=(3 * COLUMNS, 3.1 * lines), layout="constrained")
    grid = figure.subplots(lines, COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (row, exchanges, reply) in zip(grid.flat, shown, strict=False):
        turn = exchanges[-1].turn
        axes.imshow(pictures(exchanges)[-1].tiles[-1])
        text = f"{row}\n{fill(turn.question, 40)}\n{fill('+ ' + turn.answer, 40)}\n{fill('- ' + reply[:120], 40)}"
        axes.set_title(text, fontsize=6, loc="left", parse_math=False)
    figure.savefig(path, dpi=90)


def pictures(exchanges: Sequence[Exchange]) -> list[Picture]:
    return [part for exchange in exchanges for part in exchange.parts if isinstance(part, Picture)]
