"""The bound that the benchmark tells rests on a right count of operations."""

from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.checkpoint.shapes import FAMILY
from bench.encode.compare import tile_flops
from shared.checkpoint.config import ModelConfig
from shared.checkpoint.weights import Checkpoint
from tests.support.checkpoints import write_random_checkpoint
from vision_service.model.loading import load_visual_encoder


def test_operations_of_a_tile(tmp_path: Path) -> None:
    """The tests' checkpoint has the tiny shape's tower and width."""
    write_random_checkpoint(tmp_path)
    encoder = load_visual_encoder(
        Checkpoint.from_folder(tmp_path),
        ModelConfig.from_folder(tmp_path),
        device=torch.device("cpu"),
        dtype=torch.float32,
        progress=lambda *_: None,
    )
    encoder.vision_tower.config._attn_implementation = "eager"  # the fused attention is not counted
    counter = FlopCounterMode(display=False)
    with counter:
        encoder(torch.zeros(1, 3, 56, 56))
    shape = FAMILY["tiny"]
    assert counter.get_total_flops() == tile_flops(shape.tower, shape.decoder.hidden_size)
