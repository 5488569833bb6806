"""How often the demo model is right, by skill and by V2PE increment, on held-out digits and fresh scenes.

    python -m deploy.local.demo_model.evaluate [--out FOLDER]       # writes accuracy.md, accuracy.json, accuracy.png

An answer is right if greedy decoding gives exactly the expected text. That needs no decoding: it is so if and only if
each token of the expected answer, <|im_end|> included, scores highest after the ones before it.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from transformers import InternVLForConditionalGeneration, PreTrainedTokenizerBase

from deploy.local.demo_model import checkpoint_files
from deploy.local.demo_model import tokenizer as special
from deploy.local.demo_model.batches import collate, pixel_values
from deploy.local.demo_model.curriculum import ExampleMaker
from deploy.local.demo_model.digits import Split
from deploy.local.demo_model.examples import IGNORED, Example
from deploy.local.demo_model.train import answer_logits
from llm_service.positions import INCREMENTS, TICKS

SEED = 20_260_000
BATCH_SIZE = 32

Accuracy = dict[str, float]
"""Share of right answers of each skill."""


def accuracy(model: InternVLForConditionalGeneration, examples: Sequence[Example]) -> Accuracy:
    """Share of right answers of each kind of question, over all turns."""
    results: dict[str, list[bool]] = defaultdict(list)
    for start in range(0, len(examples), BATCH_SIZE):
        group = examples[start : start + BATCH_SIZE]
        for example, right in zip(group, right_answers(model, group), strict=True):
            for turn, is_right in zip(example.turns, right, strict=True):
                results[_row(example, turn.skill.value)].append(is_right)
    return {row: sum(right) / len(right) for row, right in sorted(results.items())}


@torch.no_grad()
def right_answers(model: InternVLForConditionalGeneration, examples: Sequence[Example]) -> list[list[bool]]:
    """Of each turn of each example, whether it would be answered as expected; earlier answers are taken as given."""
    batch = collate(examples)
    tokens = model.model.get_image_features(pixel_values(batch.tiles)).pooler_output
    assert isinstance(tokens, torch.Tensor)
    targets = batch.targets[:, 1:][batch.targets[:, 1:] != IGNORED]
    right = iter((answer_logits(model, batch, tokens).argmax(-1) == targets).tolist())
    lengths = [[end - start for start, end in example.answer_spans] for example in examples]
    return [[all(list(islice(right, length))) for length in of_turns] for of_turns in lengths]


def unseen(tokenizer: PreTrainedTokenizerBase, increment: int, count: int) -> list[Example]:
    """Examples that training never drew: `count` about one tile, fewer about several tiles, two pictures, clips, none.

    The pictures and questions are the same for every increment; they are shuffled, so that each batch has a picture.
    """
    maker = ExampleMaker(tokenizer, Split.HELD_OUT, np.random.default_rng(SEED), increment)
    third = range(count // 3)
    examples = [maker.one_picture(turns=1) for _ in range(count)]
    examples += [maker.one_picture(turns=1, several_tiles=True) for _ in third]
    examples += [maker.two_pictures() for _ in third] + [maker.clip() for _ in range(count // 6)]
    examples += [maker.text_only() for _ in range(count // 6)]
    return [examples[index] for index in maker.rng.permutation(len(examples))]


def _row(example: Example, skill: str) -> str:
    several = len(example.pictures) == 1 and len(example.pictures[0].tiles) > 1
    return f"{skill}, several tiles" if several else skill


def table(results: dict[int, Accuracy]) -> str:
    """Markdown: a row for each skill, a column for each increment."""
    rows = sorted({row for result in results.values() for row in result}, key=lambda row: (" tiles" in row, row))
    lines = ["| skill | " + " | ".join(fraction(ticks) for ticks in results) + " |", "|---|" + "---|" * len(results)]
    lines += [
        f"| {row} | " + " | ".join(f"{result.get(row, float('nan')):.0%}" for result in results.values()) + " |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def fraction(ticks: int) -> str:
    """An increment as people write it."""
    return "1" if ticks == TICKS else f"1/{TICKS // ticks}"


def plot(results: dict[int, Accuracy], path: Path) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(color=matplotlib.color_sequences["tab20"])
    for row in sorted({row for result in results.values() for row in result}):
        style = "--" if " tiles" in row else "-"
        axes.plot(
            [fraction(ticks) for ticks in results],
            [100 * result[row] for result in results.values()],
            style,
            marker=".",
            label=row,
        )
    axes.set(xlabel="V2PE increment of a visual token", ylabel="right answers, %", ylim=(0, 101))
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=checkpoint_files.FOLDER)
    parser.add_argument("--out", type=Path, help="folder for the results; printed only where left out")
    parser.add_argument("--examples", type=int, default=1500, help="conversations about one tile, for each increment")
    parser.add_argument("--increments", type=int, nargs="+", default=list(INCREMENTS), help="in ticks of 1/256")
    arguments = parser.parse_args()
    model, tokenizer = checkpoint_files.read_model(arguments.checkpoint), special.load(arguments.checkpoint)
    results = {
        ticks: accuracy(model, unseen(tokenizer, ticks, arguments.examples))
        for ticks in tqdm(arguments.increments, unit="increment")
    }
    print(table(results))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "accuracy.md").write_text(table(results))
        (arguments.out / "accuracy.json").write_text(
            json.dumps({fraction(ticks): result for ticks, result in results.items()}, indent=1)
        )
        plot(results, arguments.out / "accuracy.png")


if __name__ == "__main__":
    main()
