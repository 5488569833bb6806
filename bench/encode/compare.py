"""Tiles through the vision tower: python -m bench.encode [--vllm PYTHON] [--plot FILE]

On one random checkpoint of a family shape, in one run: this package's encoder, transformers' own InternVL from the same
tensors, vLLM's tower if there is one, and the bound that this machine's matrix products set. The ratios
matter. The engines take turns, and the quickest turn of each is reported; a run fails when other processes used more
than 0.15 of a core.
"""

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from transformers import InternVLForConditionalGeneration

from bench.checkpoint.shapes import FAMILY, TowerShape
from bench.checkpoint.write import write_checkpoint
from bench.machine import MOST_OTHERS, OtherLoad, OthersAtWork, allocate_as_services
from shared.checkpoint.config import ModelConfig
from shared.checkpoint.weights import Checkpoint
from vision_service.model.loading import load_visual_encoder
from vision_service.model.tower import VisualEncoder
from vision_service.settings import VisionSettings

TILE_COUNTS = (1, 4, 13)


OURS, TRANSFORMERS, VLLM = "this package", "transformers", "vLLM"


@dataclass(frozen=True)
class Row:
    """Seconds per tile, by tiles of the image."""

    tile_count: int
    seconds: dict[str, float]
    """By engine."""
    bound: float
    """Seconds of the matrix products alone, at the rate that a large one reaches here."""


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
def run(size: str, layers: int | None, dtype: torch.dtype, rounds: int, vllm: Path | None) -> tuple[list[Row], float]:
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
        load = OtherLoad()
        with _vllm_tower(vllm, original, dtype) as encode_by_vllm:
            for count in TILE_COUNTS:
                pixels = torch.randn(count, 3, shape.tower.tile_size, shape.tower.tile_size).to(dtype)
                works = {
                    OURS: partial(_in_batches, ours, pixels, VisionSettings(model=str(original)).batch_size("cpu")),
                    TRANSFORMERS: partial(theirs.get_image_features, pixels),
                }
                if encode_by_vllm is not None:
                    works[VLLM] = partial(encode_by_vllm, count)
                quickest = _in_turns(list(works.values()), rounds)
                seconds = {name: taken / count for name, taken in zip(works, quickest, strict=True)}
                bound = tile_flops(shape.tower, shape.decoder.hidden_size) / rate
                rows.append(Row(count, seconds, bound))
        if (others := load.cores()) > MOST_OTHERS:
            raise OthersAtWork(f"others used {others:.2f} cores")
        return rows, rate


@contextmanager
def _vllm_tower(python: Path | None, folder: Path, dtype: torch.dtype) -> Iterator[Callable[[int], None] | None]:
    """Encodes so many tiles in a process of vLLM's own; None without one."""
    if python is None:
        yield None
        return
    command = [str(python), "-m", "bench.encode.vllm", str(folder), str(dtype).removeprefix("torch.")]
    environment = {**os.environ, "VLLM_PLUGINS": "none", "VLLM_LOGGING_LEVEL": "WARNING"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdin and child.stdout
        _expect(child.stdout.readline(), "ready")

        def encode(tile_count: int) -> None:
            assert child.stdin and child.stdout
            print(tile_count, file=child.stdin, flush=True)
            _expect(child.stdout.readline(), "done")

        yield encode
        child.stdin.close()


def _expect(line: str, word: str) -> None:
    if line.strip() != word:
        raise RuntimeError(f"vLLM's process said {line!r} instead of {word!r}")


def _in_batches(encoder: VisualEncoder, pixels: torch.Tensor, size: int) -> None:
    """As the service's batcher cuts the tiles of one image."""
    for batch in torch.split(pixels, size):
        encoder(batch)


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


def table(rows: Sequence[Row]) -> str:
    """Markdown: seconds per tile, this package's speed over each of the others', and what of the bound it reaches."""
    others = [name for name in rows[0].seconds if name != OURS]
    heads = ["tiles", *rows[0].seconds, "bound", *(f"times {name}" for name in others), "of the bound"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        ours = row.seconds[OURS]
        ratios = [row.seconds[name] / ours for name in others]
        values = [*row.seconds.values(), row.bound, *ratios, row.bound / ours]
        lines.append(f"| {row.tile_count} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    return "\n".join(lines)


def _plot(path: Path, rows: Sequence[Row], title: str) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    engines = list(rows[0].seconds)
    wide = 0.8 / len(engines)
    for index, name in enumerate(engines):
        places = [place + wide * (index - (len(engines) - 1) / 2) for place in range(len(rows))]
        axes.bar(places, [row.seconds[name] for row in rows], wide, label=name)
    axes.axhline(rows[0].bound, color="grey", linestyle=":", label="bound of the products")
    axes.set_xticks(range(len(rows)), [str(row.tile_count) for row in rows])
    axes.set(title=title, xlabel="tiles of a picture", ylabel="seconds per tile")
    axes.legend(fontsize="small", loc="lower right")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.encode", description="Tiles through the vision tower.")
    parser.add_argument("--shape", choices=sorted(FAMILY), default="1B")
    parser.add_argument("--layers", type=int, help="keep so many layers of the tower")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vllm", type=Path, help="a Python that has vllm: also its tower")
    parser.add_argument("--plot", type=Path, help="write a picture of it here")
    options = parser.parse_args()
    allocate_as_services("bench.encode")
    rows, rate = run(options.shape, options.layers, getattr(torch, options.dtype), options.rounds, options.vllm)
    print(f"{options.shape}, {options.dtype}, {torch.get_num_threads()} threads; products: {rate / 1e9:.0f} GFLOP/s")
    print(table(rows))
    if options.plot is not None:
        _plot(options.plot, rows, f"Encoding, {options.shape} shape, {options.dtype}")
