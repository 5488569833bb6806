"""Writes a trained state as an InternVL3 checkpoint in the original layout, and proves that nothing was lost.

python -m deploy.local.demo_model.export --state FOLDER/state.pt [--out CHECKPOINT]
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from transformers import InternVLForConditionalGeneration

from deploy.local.demo_model import checkpoint_files
from deploy.local.demo_model import tokenizer as special
from deploy.local.demo_model.batches import collate, pixel_values
from deploy.local.demo_model.curriculum import FULL, ExampleMaker
from deploy.local.demo_model.digits import Split
from deploy.local.demo_model.layout import Tensors
from deploy.local.demo_model.train import answer_logits


def rounded(native: Tensors) -> Tensors:
    """Weights as a bfloat16 file holds them, in float32."""
    return {name: tensor.to(torch.bfloat16).float() for name, tensor in native.items()}


def check(folder: Path, native: Tensors) -> None:
    """Raise ValueError unless the folder's model scores tokens exactly as the rounded weights do."""
    from_folder = checkpoint_files.read_model(folder)
    expected = checkpoint_files.read_model(folder)
    expected.load_state_dict(rounded(native))
    difference = (_probe(from_folder, folder) - _probe(expected, folder)).abs().max().item()
    if difference != 0:
        raise ValueError(f"the exported model's scores differ by {difference}")


@torch.no_grad()
def _probe(model: InternVLForConditionalGeneration, folder: Path) -> torch.Tensor:
    maker = ExampleMaker(special.load(folder), Split.HELD_OUT, np.random.default_rng(0))
    batch = collate([maker.one_picture(), *(maker.example(FULL) for _ in range(7))])
    tokens = model.model.get_image_features(pixel_values(batch.tiles)).pooler_output
    assert isinstance(tokens, torch.Tensor)
    return answer_logits(model, batch, tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=checkpoint_files.FOLDER)
    arguments = parser.parse_args()
    native = torch.load(arguments.state, map_location="cpu", weights_only=True)["model"]
    checkpoint_files.write(arguments.out, native, arguments.state.parent / "tokenizer")
    check(arguments.out, native)
    print(f"{arguments.out}: {sum(path.stat().st_size for path in arguments.out.iterdir()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
