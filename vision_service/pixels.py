"""Tiles to the numbers InternVL was trained with, equal to `build_transform` of OpenGVLab/InternVL to the last bit.

Apart from the cut, because the process that cuts runs without torch. Shapes: N tiles, S the tile's side in pixels.
"""

import numpy as np
import torch

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)


def normalize(tiles: np.ndarray) -> torch.Tensor:
    """uint8 (N, S, S, 3) to float32 (N, 3, S, S), by ImageNet's mean and deviation.

    Divided, subtracted and divided in this order: one fused multiply-add would differ in the last bit.
    """
    pixels = (tiles.astype(np.float32) / np.float32(255) - IMAGENET_MEAN) / IMAGENET_STD
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
