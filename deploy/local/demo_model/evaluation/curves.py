"""Every loss of a run, plotted from its `losses.csv`.

python -m deploy.local.demo_model.evaluation.curves [--run FOLDER] [--out FILE]
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

from deploy.local.demo_model.recipe import state

Curves = dict[str, dict[str, tuple[list[int], list[float]]]]
"""Part to loss to steps and values."""

SMOOTHING = 0.1


def read(path: Path) -> Curves:
    """The curves of a run; of a step that was repeated after a resume, the later value."""
    values: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    with path.open(newline="") as file:
        for part, step, name, value in csv.reader(file):
            values[part][name][int(step)] = float(value)
    return {
        part: {name: (sorted(by), [by[step] for step in sorted(by)]) for name, by in names.items()}
        for part, names in values.items()
    }


def plot(curves: Curves, path: Path) -> None:
    """A row for each part, a panel for each loss."""
    columns = max(len(names) for names in curves.values())
    figure = Figure(figsize=(2.9 * columns, 2.3 * len(curves)), layout="constrained")
    grid = figure.subplots(len(curves), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for line, (part, names) in zip(grid, curves.items(), strict=True):
        for axes, (name, (steps, values)) in zip(line, names.items(), strict=False):
            axes.set_axis_on()
            axes.plot(steps, values, color="lightsteelblue", linewidth=0.6)
            axes.plot(steps, smooth(values), color="navy", linewidth=1)
            axes.set_title(f"{part}: {name}", fontsize=8)
            axes.tick_params(labelsize=6)
    figure.savefig(path, dpi=90)


def smooth(values: list[float]) -> list[float]:
    """An exponential moving average."""
    means: list[float] = []
    for value in values:
        means.append(value if not means else means[-1] + SMOOTHING * (value - means[-1]))
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=state.default_folder())
    parser.add_argument("--out", type=Path, default=Path("losses.png"))
    arguments = parser.parse_args()
    plot(read(arguments.run / "losses.csv"), arguments.out)


if __name__ == "__main__":
    main()
