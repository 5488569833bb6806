"""The demo model's evaluation: the same held-out questions for every increment, and reports that can be read."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from deploy.local.demo_model.evaluation import curves
from deploy.local.demo_model.evaluation.report import failure_sheet, fraction, pictures, plot, table
from deploy.local.demo_model.evaluation.rows import Row, rows
from deploy.local.demo_model.talk.turns import Skill

RESULTS = {"digit": {"1": 0.97, "1/4": 0.955}, "video": {"1": 0.9, "1/4": 0.5}}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_a_row_asks_the_same_at_every_increment(row: Row) -> None:
    one, other = row.cases(3, 256), row.cases(3, 1)
    for first, second in zip(one, other, strict=True):
        assert [exchange.turn for exchange in first.exchanges] == [exchange.turn for exchange in second.exchanges]
        shown = list(zip(pictures(first.exchanges), pictures(second.exchanges), strict=True))
        assert all((a.tiles == b.tiles).all() for a, b in shown)
        assert all((a.increment, b.increment) == (256, 1) for a, b in shown)


@pytest.mark.parametrize("row", rows()[:14], ids=lambda row: row.name)
def test_rows_about_one_tile_have_one_tile_and_others_more(row: Row) -> None:
    several = next(other for other in rows() if other.name == f"{row.name}, several tiles")
    assert {len(pictures(case.exchanges)[0].tiles) for case in row.cases(4, 64)} == {1}
    assert min(len(pictures(case.exchanges)[0].tiles) for case in several.cases(4, 64)) >= 3
    assert {case.exchanges[-1].turn.skill for case in row.cases(4, 64)} == {Skill(row.name)}


def test_unseen_wordings_are_asked_where_wanted() -> None:
    row = rows()[0]
    assert all(case.exchanges[-1].turn.unseen for case in row.cases(5, 64, unseen=True))
    assert not any(case.exchanges[-1].turn.unseen for case in row.cases(5, 64))


def width(path: Path) -> int:
    with Image.open(path) as image:
        return image.width


def test_the_table_has_a_line_for_each_row() -> None:
    assert table(RESULTS) == "| skill | 1 | 1/4 |\n|---|---|---|\n| digit | 97% | 96% |\n| video | 90% | 50% |\n"
    assert [fraction(ticks) for ticks in (256, 64, 1)] == ["1", "1/4", "1/256"]


def test_plot_and_failures_are_pictures(tmp_path: Path) -> None:
    plot(RESULTS, tmp_path / "plot.png")
    case = rows()[0].cases(1, 64)[0]
    failure_sheet([("digit", case.exchanges, "$^{")], tmp_path / "failures.png")
    assert width(tmp_path / "plot.png") > 300
    assert width(tmp_path / "failures.png") > 300


def test_curves_keep_the_later_value_of_a_repeated_step(tmp_path: Path) -> None:
    with (tmp_path / "losses.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["tower", 5, "patches", 3], ["tower", 10, "patches", 2], ["tower", 5, "patches", 1]]
        )
    found = curves.read(tmp_path / "losses.csv")
    assert found == {"tower": {"patches": ([5, 10], [1.0, 2.0])}}
    curves.plot(found, tmp_path / "losses.png")
    assert width(tmp_path / "losses.png") > 100
    assert curves.smooth([1.0, 2.0]) == pytest.approx([1.0, 1.1])
