"""Tiles through the vision tower: python -m bench.encode [--plot FILE]

On one random checkpoint of a family shape, in one run: this package's encoder, transformers' own InternVL from the same
tensors, and the bound that this machine's matrix products set. What counts are the ratios. The two take turns, and of
each turn the quickest is told, for the slower ones had company.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from transformers import InternVLForConditionalGeneration

from bench.checkpoint import write_checkpoint
from bench.shapes import FAMILY, TowerShape
from shared.checkpoint import Checkpoint
from shared.model_config import ModelConfig
from vision_service.model.loading import load_visual_encoder

TILE_COUNTS = (1, 4, 13)


@dataclass(frozen=True)
class Row:
    """Seconds per tile in a batch of so many."""

    tile_count: int
    ours: float
    transformers: float
    bound: float
    """Of the products alone, at the rate that a large one reaches here."""


def tile_flops(shape: TowerShape, decoder_width: int) -> int:
    """Multiplications and additions of one tile: patches, layers with attention, projector."""
    side = shape.tile_size // 14
    patches, width, inner = side * side, shape.hidden_size, shape.intermediate_size
    rows = patches + 1
    layer = 2 * rows * (4 * width * width + 2 * width * inner) + 4 * rows * rows * width
    projector = 2 * (patches // 4) * (4 * width * decoder_width + decoder_width * decoder_width)
    return 2 * patches * 588 * width + shape.layer_count * layer + projector


def product_rate(dtype: torch.dtype) -> float:
    """FLOP/s of the tower's own largest product, weights in any layout the library likes."""
    rows, width, inner = 4100, 1024, 4096
    left, right = torch.randn(rows, width).to(dtype), torch.randn(inner, width).to(dtype)
    seconds = _quickest(lambda: torch.nn.functional.linear(left, right), 12)
    return 2 * rows * width * inner / seconds


@torch.inference_mode()
def run(size: str, layers: int | None, dtype: torch.dtype, rounds: int) -> tuple[list[Row], float]:
    """Rows, and the rate of products in FLOP/s."""
    whole = FAMILY[size]
    tower = whole.cut(layers).tower if layers else whole.tower
    shape = replace(whole, tower=tower, decoder=whole.cut(1).decoder)  # whose layers nobody runs
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        original, native = Path(folder) / "original", Path(folder) / "native"
        write_checkpoint(original, shape, dtype=dtype)
        write_checkpoint(native, shape, dtype=dtype, layout="hf")
        ours = load_visual_encoder(
            Checkpoint.from_folder(original),
            ModelConfig.from_folder(original),
            device=torch.device("cpu"),
            dtype=dtype,
            progress=lambda *_: None,
        )
        theirs = InternVLForConditionalGeneration.from_pretrained(native, dtype=dtype)
        theirs.train(False)
        rate = product_rate(dtype)
        rows = []
        for count in TILE_COUNTS:
            pixels = torch.randn(count, 3, shape.tower.tile_size, shape.tower.tile_size).to(dtype)
            mine, native_seconds = _in_turns(
                [partial(ours, pixels), partial(theirs.get_image_features, pixels)], rounds
            )
            bound = tile_flops(shape.tower, shape.decoder.hidden_size) / rate
            rows.append(Row(count, mine / count, native_seconds / count, bound))
        return rows, rate


def _in_turns(works: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    quickest = [float("inf")] * len(works)
    for _ in range(rounds):
        for index, work in enumerate(works):
            quickest[index] = min(quickest[index], _quickest(work, 1))
    return quickest


def _quickest(work: Callable[[], object], rounds: int) -> float:
    seconds = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds = min(seconds, time.perf_counter() - started)
    return seconds


def _plot(path: Path, rows: Sequence[Row], title: str) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    places = range(len(rows))
    axes.bar([place - 0.2 for place in places], [row.transformers for row in rows], 0.4, label="transformers")
    axes.bar([place + 0.2 for place in places], [row.ours for row in rows], 0.4, label="this package")
    axes.axhline(rows[0].bound, color="grey", linestyle=":", label="bound of the products")
    axes.set_xticks(places, [str(row.tile_count) for row in rows])
    axes.set(title=title, xlabel="tiles in a batch", ylabel="seconds per tile")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.encode", description="Tiles through the vision tower.")
    parser.add_argument("--shape", choices=sorted(FAMILY), default="1B")
    parser.add_argument("--layers", type=int, help="keep so many layers of the tower")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=Path, help="write a picture of it here")
    options = parser.parse_args()
    rows, rate = run(options.shape, options.layers, getattr(torch, options.dtype), options.rounds)
    print(f"{options.shape}, {options.dtype}, {torch.get_num_threads()} threads; products: {rate / 1e9:.0f} GFLOP/s")
    print(f"{'tiles':>6} {'ours':>8} {'transformers':>13} {'bound':>8} {'times theirs':>13} {'of the bound':>13}")
    for row in rows:
        print(
            f"{row.tile_count:6} {row.ours:8.2f} {row.transformers:13.2f} {row.bound:8.2f} "
            f"{row.transformers / row.ours:13.2f} {row.bound / row.ours:13.2f}"
        )
    if options.plot is not None:
        _plot(options.plot, rows, f"Encoding, {options.shape} shape, {options.dtype}")


if __name__ == "__main__":
    main()
