"""Both styles of the tower in every dtype, beside transformers' own model with the same weights."""

from pathlib import Path

import pytest
import torch

from shared.checkpoint.config import ModelConfig
from shared.checkpoint.weights import Checkpoint
from tests.support.checkpoints import TILE_SIZE, Style, write_random_checkpoint
from vision_service.model.loading import load_visual_encoder


@pytest.mark.parametrize("style", ["300m", "6b"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 1e-2), (torch.bfloat16, 5e-2)], ids=str
)
@torch.no_grad()
def test_equal_to_the_native_model(tmp_path: Path, style: Style, dtype: torch.dtype, tolerance: float) -> None:
    native = write_random_checkpoint(tmp_path, style=style)
    encoder = load_visual_encoder(
        Checkpoint.from_folder(tmp_path),
        ModelConfig.from_folder(tmp_path),
        device=torch.device("cpu"),
        dtype=dtype,
        progress=lambda *_: None,
    )
    pixels = torch.randn(3, 3, TILE_SIZE, TILE_SIZE, generator=torch.Generator().manual_seed(0))
    wanted = native.get_image_features(pixels).pooler_output
    rows = encoder(pixels.to(dtype))
    assert rows.dtype == dtype
    distance = torch.linalg.vector_norm(rows.float() - wanted.reshape(rows.shape))
    assert float(distance / torch.linalg.vector_norm(wanted)) < tolerance
