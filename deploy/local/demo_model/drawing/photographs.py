"""What the model cannot name: photographs, noise and blurred stains.

The photographs are scikit-learn's (`china.jpg`, `flower.jpg`) for training and matplotlib's (`grace_hopper.jpg`) held
out; both libraries carry them in their packages.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import sklearn.datasets
from PIL import Image

from deploy.local.demo_model.drawing.digits import Split
from deploy.local.demo_model.drawing.marks import Drawing


@cache
def photographs(split: Split) -> tuple[Image.Image, ...]:
    """Photographs in RGB, 320 pixels in height."""
    if split is Split.HELD_OUT:
        paths = [Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")]
    else:
        folder = Path(sklearn.datasets.__file__).parent / "images"
        paths = [folder / "china.jpg", folder / "flower.jpg"]
    images = [Image.open(path).convert("RGB") for path in paths]
    return tuple(image.resize((round(image.width * 320 / image.height), 320)) for image in images)


@dataclass(frozen=True)
class PhotographMaker:
    """Draws pictures that show nothing the model knows, by lot."""

    split: Split
    rng: np.random.Generator

    def drawing(self, size: tuple[int, int]) -> Drawing:
        make = self._photograph if self.rng.random() < 0.6 else self._stains
        return Drawing(make(size))

    def _photograph(self, size: tuple[int, int]) -> Image.Image:
        """A part of a photograph, mirrored or not."""
        options = photographs(self.split)
        image = options[int(self.rng.integers(len(options)))]
        width, height = size
        zoom = self.rng.uniform(0.35, 1.0) * min(image.width / width, image.height / height)
        left = self.rng.uniform(0, image.width - width * zoom)
        top = self.rng.uniform(0, image.height - height * zoom)
        part = image.resize(size, Image.Resampling.BILINEAR, (left, top, left + width * zoom, top + height * zoom))
        return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.rng.random() < 0.5 else part

    def _stains(self, size: tuple[int, int]) -> Image.Image:
        """Noise of one coarseness, from single pixels to stains as large as a third of the picture."""
        cells = int(self.rng.choice([3, 5, 8, 16, 32, 112]))
        channels = 1 if self.rng.random() < 0.3 else 3
        noise = self.rng.integers(0, 256, (cells, cells, channels), dtype=np.uint8)
        rgb = np.repeat(noise, 3, axis=2) if channels == 1 else noise
        return Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC)
