"""The language model's speed beside transformers' and vLLM's, on the same random weights in one run.

    python -m bench.llm CHECKPOINT [--vllm PYTHON] [--rounds 2] [--plot llm.png]

CHECKPOINT is one of `python -m bench.checkpoint`. Each engine runs in a process of its own, one after the other, and
all of them again in the next round; the best of each figure is reported. A round is thrown away and repeated when other
processes used more than 0.15 of a core.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from bench.llm.language import DECODE_BATCHES
from bench.machine import MALLOC_SETTINGS, MOST_OTHERS, OtherLoad, OthersAtWork, bandwidth, gemm_rate
from shared.checkpoint.config import ModelConfig
from shared.checkpoint.weights import LANGUAGE_PREFIXES, Checkpoint

ATTEMPTS = 3
TIMES = ("turn 2", "chats")
"""Rows in seconds, where less is better; the others are tokens per second."""
Figures = dict[str, float]
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", **MALLOC_SETTINGS}
"""The weights are here; every engine allocates as the services do."""
_AS_IT_COMES = ("env", "VLLM_PLUGINS=none", "VLLM_CPU_KVCACHE_SPACE=2")
"""vLLM without our plugin; of 20 GiB it would take all for its cache."""


def main() -> None:
    """Prints the table; writes the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--int8", action="store_true", help="also our engine with 8-bit weights, in bfloat16")
    parser.add_argument("--vllm", type=Path, help="a Python that has vllm: it as it comes, and our engine over it")
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="internvl-bench-") as folder:
        sizes = write_decoder(arguments.checkpoint, Path(folder), arguments.dtype)
        ours = ["-m", "bench.llm.ours", str(arguments.checkpoint)]
        commands = {
            "ours": [sys.executable, *ours, arguments.dtype, "torch", "stored"],
            "transformers": [sys.executable, "-m", "bench.llm.transformers", folder, arguments.dtype],
        }
        if arguments.int8:
            commands["ours, int8"] = [sys.executable, *ours, "bfloat16", "torch", "int8"]
        if arguments.vllm:
            plain = [*_AS_IT_COMES, str(arguments.vllm), "-m", "bench.llm.vllm"]
            commands["vLLM"] = [*plain, folder, arguments.dtype]
            commands["ours on vLLM"] = [str(arguments.vllm), *ours, arguments.dtype, "vllm", "stored"]
        bound = roofline(sizes, getattr(torch, arguments.dtype))
        found: dict[str, list[Figures]] = {name: [] for name in commands}
        for seed in range(arguments.rounds):
            for name, command in commands.items():
                print(f"round {seed + 1} of {arguments.rounds}: {name}", file=sys.stderr, flush=True)
                found[name].append(calmly([*command, str(seed)]))
    table = {"bound": bound, **{name: best(rounds) for name, rounds in found.items()}}
    print(markdown(table))
    if arguments.plot:
        plot(table, arguments.plot)


@dataclass(frozen=True)
class Sizes:
    """Numbers of weights."""

    layers: int
    head: int


def write_decoder(checkpoint: Path, folder: Path, dtype: str) -> Sizes:
    """The language half as a checkpoint of its own, for engines that know no InternVL."""
    config = dict(ModelConfig.from_folder(checkpoint).language)
    architecture = {"qwen2": "Qwen2ForCausalLM"}[config["model_type"]]
    (folder / "config.json").write_text(json.dumps({**config, "architectures": [architecture], "dtype": dtype}))
    tensors = Checkpoint.from_folder(checkpoint).tensors(*LANGUAGE_PREFIXES)
    cast = {name.removeprefix(LANGUAGE_PREFIXES[0]): tensor.to(getattr(torch, dtype)) for name, tensor in tensors}
    save_file(cast, folder / "model.safetensors", metadata={"format": "pt"})
    layers = sum(tensor.numel() for name, tensor in cast.items() if name.startswith("model.layers."))
    return Sizes(layers, cast["lm_head.weight"].numel())


def roofline(sizes: Sizes, dtype: torch.dtype) -> Figures:
    """The most this machine allows: arithmetic where prompts are computed, memory where single tokens are.

    A prompt's attention is not counted; a step of single tokens reads every weight once. The arithmetic may be that of
    float32, where that is faster.
    """
    operations, read = max(gemm_rate(dtype), gemm_rate(torch.float32)), bandwidth()
    print(f"{read / 1e9:.1f} GB/s, {operations / 1e9:.0f} GFLOP/s", file=sys.stderr)
    steps = read / ((sizes.layers + sizes.head) * dtype.itemsize)
    return {
        "prefill": operations / (2 * sizes.layers),
        **{f"decode {batch}": batch * steps for batch in DECODE_BATCHES},
    }


def calmly(command: Sequence[str]) -> Figures:
    """Output of the command, from a run with the machine to itself. Raises OthersAtWork if there is none."""
    for _ in range(ATTEMPTS):
        load = OtherLoad()
        environment = {**os.environ, **_ENVIRONMENT}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        if (others := load.cores()) <= MOST_OTHERS:
            figures: Figures = json.loads(done.stdout.splitlines()[-1])
            print(done.stdout.splitlines()[-1], file=sys.stderr, flush=True)
            return figures
        print(f"others used {others:.2f} cores: again", file=sys.stderr, flush=True)
    raise OthersAtWork(f"others used more than {MOST_OTHERS} cores in each of {ATTEMPTS} runs")


def best(rounds: Sequence[Figures]) -> Figures:
    return {row: (min if row in TIMES else max)(figures[row] for figures in rounds) for row in rounds[0]}


def markdown(table: dict[str, Figures]) -> str:
    rows = list(table["ours"])
    lines = ["| | " + " | ".join(table) + " |", "|---|" + "---|" * len(table)]
    for row in rows:
        values = [f"{figures[row]:.2f}" if row in figures else "" for figures in table.values()]
        lines.append(f"| {row}, {'s' if row in TIMES else 'tok/s'} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def plot(table: dict[str, Figures], path: Path) -> None:
    """Each engine's speed over transformers', row by row."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    base = table["transformers"]
    engines = [name for name in table if name != "bound"]
    figure, axes = pyplot.subplots(figsize=(9, 4), layout="constrained")
    for place, name in enumerate(engines):
        speeds = [base[row] / table[name][row] if row in TIMES else table[name][row] / base[row] for row in base]
        axes.bar([x + 0.8 * place / len(engines) for x in range(len(base))], speeds, 0.8 / len(engines), label=name)
    axes.set_xticks([x + 0.3 for x in range(len(base))], list(base))
    axes.set_yscale("log")
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set_ylabel("times transformers' speed")
    axes.legend()
    figure.savefig(path, dpi=120)
