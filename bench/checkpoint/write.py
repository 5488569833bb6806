"""Writes a random checkpoint of a family shape, with the real vocabulary: python -m bench.checkpoint FOLDER --shape 1B

Every matrix is scaled by its fan-in, so that activations and logits stay of order one at any depth. A tensor's values
depend on its name and the seed alone: a cut has the values of the whole.
"""

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import torch
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file
from transformers import InternVLForConditionalGeneration

from bench.checkpoint.qwen import tokenizer
from bench.checkpoint.shapes import FAMILY, FamilyShape, native_config, original_config
from bench.checkpoint.tokenizer_files import write_as_released
from deploy.local.demo_model.layout import to_original

Layout = Literal["internvl", "hf"]
SHARD_BYTES = 1 << 30
"""Size of one file, unless a single tensor is larger; about twice as much memory is needed."""


def write_checkpoint(
    folder: Path,
    shape: FamilyShape,
    *,
    dtype: torch.dtype = torch.bfloat16,
    layout: Layout = "internvl",
    seed: int = 0,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Configuration, tokenizer and weights. Raises FileExistsError unless the folder is new or empty."""
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    folder.mkdir(parents=True, exist_ok=True)
    _write_config(folder, shape, dtype, layout)
    if layout == "internvl":
        write_as_released(folder, tokenizer().backend_tokenizer)
    else:
        tokenizer().save_pretrained(folder)
    shapes = tensor_shapes(shape, layout)
    shards = list(_shards(shapes, dtype, shard_bytes))
    sizes = {name: math.prod(shapes[name]) * dtype.itemsize for name in shapes}
    with _progress() as progress:
        task = progress.add_task("writing", total=sum(sizes.values()))
        weight_map = {}
        for index, names in enumerate(shards, start=1):
            tensors = {}
            for name in names:
                tensors[name] = _random(name, shapes[name], dtype, seed)
                progress.advance(task, sizes[name])
            file_name = f"model-{index:05d}-of-{len(shards):05d}.safetensors"
            save_file(tensors, folder / file_name, metadata={"format": "pt"})
            (folder / file_name).chmod(0o644)  # safetensors lets the owner alone read it
            weight_map.update(dict.fromkeys(names, file_name))
    index_file = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
    _write_json(folder / "model.safetensors.index.json", index_file)


def tensor_shapes(shape: FamilyShape, layout: Layout) -> dict[str, tuple[int, ...]]:
    """Stored name to shape."""
    with torch.device("meta"):
        model = InternVLForConditionalGeneration(native_config(shape))
    tensors = dict(model.state_dict())
    stored = to_original(tensors) if layout == "internvl" else {_saved(name): tensors[name] for name in tensors}
    return {name: tuple(tensor.shape) for name, tensor in stored.items()}


def _saved(name: str) -> str:
    """As transformers writes it to disk: without the leading `model.`, the decoder nested."""
    if name.startswith("model.language_model."):
        return name.replace("model.language_model.", "language_model.model.", 1)
    return "language_model." + name if name.startswith("lm_head.") else name.removeprefix("model.")


def _shards(shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, most: int) -> Iterator[list[str]]:
    """The names in order, in groups of at most so many bytes."""
    names: list[str] = []
    size = 0
    for name, shape in shapes.items():
        own = math.prod(shape) * dtype.itemsize
        if names and size + own > most:
            yield names
            names, size = [], 0
        names.append(name)
        size += own
    yield names


def _random(name: str, shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Uniform around the middle that this kind of tensor has: uniform, because it takes half the time of normal."""
    middle, deviation = _distribution(name, shape)
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    half = deviation * math.sqrt(3)
    return torch.empty(shape, dtype=dtype).uniform_(middle - half, middle + half, generator=generator)


def _distribution(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Mean and standard deviation of a tensor's values."""
    if name.endswith((".ls1", ".ls2", ".lambda_1", ".lambda_2")):
        return 0.1, 0.01
    if name.endswith(".bias"):
        return 0.0, 0.02
    if len(shape) == 1:  # a norm's weight
        return 1.0, 0.1
    if "class_embedding" in name or "cls_token" in name or "position_embedding" in name:
        return 0.0, 0.1
    if "embed_tokens" in name:
        return 0.0, 1.0
    return 0.0, math.prod(shape[1:]) ** -0.5


def _write_config(folder: Path, shape: FamilyShape, dtype: torch.dtype, layout: Layout) -> None:
    dtype_name = str(dtype).removeprefix("torch.")
    if layout == "internvl":
        _write_json(folder / "config.json", original_config(shape, dtype_name))
        return
    _write_json(folder / "config.json", {**native_config(shape).to_dict(), "dtype": dtype_name})
    tiling = {"min_patches": 1, "max_patches": shape.max_tile_count, "crop_to_patches": True}
    side = {"height": shape.tower.tile_size, "width": shape.tower.tile_size}
    _write_json(folder / "preprocessor_config.json", {**tiling, "size": side})


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TimeRemainingColumn()
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.checkpoint", description="Writes a random checkpoint.")
    parser.add_argument("folder", type=Path, help="where to; new or empty")
    parser.add_argument("--shape", choices=sorted(FAMILY), required=True)
    parser.add_argument("--layers", type=int, help="keep so many layers of each half")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--layout", choices=["internvl", "hf"], default="internvl")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.layers is not None and options.layers < 1:
        parser.error("--layers must be 1 or more")
    shape = FAMILY[options.shape] if options.layers is None else FAMILY[options.shape].cut(options.layers)
    try:
        write_checkpoint(
            options.folder, shape, dtype=getattr(torch, options.dtype), layout=options.layout, seed=options.seed
        )
    except OSError as error:
        sys.exit(f"bench.checkpoint: {error}")
