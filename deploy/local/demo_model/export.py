"""Writes a run's averaged weights as an InternVL3 checkpoint in the original layout, and proves that nothing was lost.

python -m deploy.local.demo_model.export [--run FOLDER] [--part finetuning] [--out CHECKPOINT]
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from transformers import InternVLForConditionalGeneration

from deploy.local.demo_model import checkpoint_files
from deploy.local.demo_model.drawing.digits import Split
from deploy.local.demo_model.layout import Tensors
from deploy.local.demo_model.network.forward import predictions, visual_tokens
from deploy.local.demo_model.network.packs import packed
from deploy.local.demo_model.recipe import state
from deploy.local.demo_model.talk import tokenizer as special
from deploy.local.demo_model.talk.conversations import Talker, example
from deploy.local.demo_model.talk.examples import conversation


def rounded(native: Tensors) -> Tensors:
    """Weights as a bfloat16 file holds them, in float32."""
    return {name: tensor.to(torch.bfloat16).float() for name, tensor in native.items()}


def check(folder: Path, native: Tensors) -> None:
    """Raises ValueError unless the folder's model scores tokens exactly as the rounded weights do."""
    from_folder = checkpoint_files.read_model(folder)
    expected = checkpoint_files.read_model(folder)
    expected.load_state_dict(rounded(native))
    difference = (_probe(from_folder, folder) - _probe(expected, folder)).abs().max().item()
    if difference != 0:
        raise ValueError(f"the exported model's scores differ by {difference}")


@torch.no_grad()
def _probe(model: InternVLForConditionalGeneration, folder: Path) -> torch.Tensor:
    talker, tokenizer = Talker(Split.HELD_OUT, np.random.default_rng(0)), special.load(folder)
    pack = packed([conversation(tokenizer, talker.one_picture()), *(example(talker, tokenizer) for _ in range(7))])
    return predictions(model, pack, visual_tokens(model, pack.tiles))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=state.default_folder())
    parser.add_argument("--part", help="the state at the end of a part; left out, the latest")
    parser.add_argument("--out", type=Path, default=checkpoint_files.FOLDER)
    arguments = parser.parse_args()
    saved = state.load(arguments.run, f"{arguments.part}.pt" if arguments.part else "state.pt")
    if saved is None:
        raise SystemExit(f"{arguments.run} holds no such state")
    checkpoint_files.write(arguments.out, saved["average"], arguments.run / "tokenizer")
    check(arguments.out, saved["average"])
    print(f"{arguments.out}: {sum(path.stat().st_size for path in arguments.out.iterdir()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
