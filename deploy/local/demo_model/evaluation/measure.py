"""Asks the demo model and writes down how often it is right, by row and by V2PE increment.

    python -m deploy.local.demo_model.evaluation.measure [--out FOLDER] [--answers 200] [--unseen]

Greedy decoding of whole replies; `Turn.accepts` says when one is right.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import InternVLForConditionalGeneration, PreTrainedTokenizerBase

from deploy.local.demo_model import checkpoint_files
from deploy.local.demo_model.evaluation.report import failure_sheet, fraction, plot, table
from deploy.local.demo_model.evaluation.rows import Case, Row, rows
from deploy.local.demo_model.network.sampling import replies
from deploy.local.demo_model.talk import tokenizer as special
from deploy.local.demo_model.talk.examples import prompt

INCREMENTS = (256, 64, 16, 1)
"""1, 1/4, 1/16 and 1/256, in ticks."""
BATCH_SIZE = 25
FAILURES_SHOWN = 2
"""Of each row."""


@dataclass(frozen=True)
class Failure:
    """A wrong reply."""

    row: str
    case: Case
    reply: str


def measure(
    model: InternVLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    row: Row,
    *,
    count: int,
    increment: int,
    unseen: bool = False,
) -> tuple[float, list[Failure]]:
    """Share of right replies, and the wrong ones."""
    cases = row.cases(count, increment, unseen=unseen)
    failures: list[Failure] = []
    for start in range(0, count, BATCH_SIZE):
        group = cases[start : start + BATCH_SIZE]
        said = replies(model, tokenizer, [prompt(tokenizer, case.exchanges, case.system) for case in group])
        failures += [
            Failure(row.name, case, reply)
            for case, reply in zip(group, said, strict=True)
            if not case.exchanges[-1].turn.accepts(reply)
        ]
    return 1 - len(failures) / count, failures


def results(
    model: InternVLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    chosen: Sequence[Row],
    increments: Sequence[int],
    *,
    count: int,
    unseen: bool,
) -> tuple[dict[str, dict[str, float]], list[Failure]]:
    """Row to increment to share of right replies; and failures to look at."""
    found: dict[str, dict[str, float]] = {}
    shown: list[Failure] = []
    for row in tqdm(chosen, unit="row"):
        for increment in increments:
            share, failures = measure(model, tokenizer, row, count=count, increment=increment, unseen=unseen)
            found.setdefault(row.name, {})[fraction(increment)] = share
            shown += failures[:FAILURES_SHOWN] if increment == increments[0] else []
    return found, shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=checkpoint_files.FOLDER)
    parser.add_argument("--out", type=Path, help="folder for the results; printed only where left out")
    parser.add_argument("--answers", type=int, default=200, help="of each row, for each increment")
    parser.add_argument("--increments", type=int, nargs="+", default=list(INCREMENTS), help="in ticks of 1/256")
    parser.add_argument("--unseen", action="store_true", help="ask in wordings that training never used")
    parser.add_argument("--rows", nargs="+", help="names of rows; all where left out")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, tokenizer = checkpoint_files.read_model(arguments.checkpoint), special.load(arguments.checkpoint)
    chosen = [row for row in rows() if not arguments.rows or row.name in arguments.rows]
    found, failures = results(
        model, tokenizer, chosen, arguments.increments, count=arguments.answers, unseen=arguments.unseen
    )
    print(table(found))
    if arguments.out:
        name = "unseen" if arguments.unseen else "accuracy"
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / f"{name}.md").write_text(table(found))
        (arguments.out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
        plot(found, arguments.out / f"{name}.png")
        failure_sheet(
            [(failure.row, failure.case.exchanges, failure.reply) for failure in failures],
            arguments.out / f"{name}_failures.png",
        )


if __name__ == "__main__":
    main()
