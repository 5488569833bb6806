"""Scenes as pixels, and as labels of the patches a vision tower looks at.

Knows nothing of questions. The same scene always gives the same pixels.
"""

from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw

from deploy.local.demo_model import digits
from deploy.local.demo_model.scenes import COLORS, NAMES, Scene, Thing

SUPERSAMPLING = 2

_UNIT_SHAPES: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.44, -0.44), (0.44, -0.44), (0.44, 0.44), (-0.44, 0.44)],
    "triangle": [(0.0, -0.5), (0.5, 0.42), (-0.5, 0.42)],
    "star": [
        ((0.52 if k % 2 == 0 else 0.21) * sin(k * pi / 5), -(0.52 if k % 2 == 0 else 0.21) * cos(k * pi / 5))
        for k in range(10)
    ],
    "cross": [
        (-0.16, -0.5), (0.16, -0.5), (0.16, -0.16), (0.5, -0.16), (0.5, 0.16), (0.16, 0.16),
        (0.16, 0.5), (-0.16, 0.5), (-0.16, 0.16), (-0.5, 0.16), (-0.5, -0.16), (-0.16, -0.16),
    ],
}  # fmt: skip
"""Corners in a square of side 1 around the origin, y downward."""

_DIGIT_CONTRAST = [int(255 * min(1.0, max(0.0, (level - 50) / 120))) for level in range(256)]
"""Makes the blur of an enlarged 8x8 drawing a stroke with edges."""


def draw(scene: Scene) -> Image.Image:
    """The RGB picture of a scene."""
    scale = SUPERSAMPLING
    canvas = Image.new("RGB", (scene.width * scale, scene.height * scale), scene.paper)
    for thing in scene.things:
        if thing.drawing is None:
            _draw_shape(canvas, thing, scale)
        else:
            _draw_digit(canvas, thing, thing.drawing, scale)
    picture = canvas.reduce(scale)
    return _with_noise(picture, scene.noise) if scene.noise else picture


def patch_labels(scene: Scene, patches: int) -> np.ndarray:
    """What lies under each patch of the picture squeezed into `patches` x `patches`.

    Returns int64 (patches, patches, 3): name (0 is paper, else 1 + index in NAMES), colour (likewise), and 1 where a
    thing has its centre.
    """
    labels = np.zeros((patches, patches, 3), dtype=np.int64)
    centers = (np.arange(patches) + 0.5) / patches
    for thing in scene.things:
        dx = np.abs(centers * scene.width - thing.x)[None, :]
        dy = np.abs(centers * scene.height - thing.y)[:, None]
        covered = np.maximum(dx, dy) < 0.42 * thing.size
        row, col = int(thing.y / scene.height * patches), int(thing.x / scene.width * patches)
        row, col = min(max(row, 0), patches - 1), min(max(col, 0), patches - 1)
        covered[row, col] = True
        labels[covered, 0] = 1 + NAMES.index(thing.name)
        labels[covered, 1] = 1 + COLORS.index(thing.color)
        labels[row, col, 2] = 1
    return labels


def _draw_shape(canvas: Image.Image, thing: Thing, scale: int) -> None:
    pen = ImageDraw.Draw(canvas)
    x, y, size = thing.x * scale, thing.y * scale, thing.size * scale
    if thing.name == "circle":
        pen.ellipse((x - size / 2, y - size / 2, x + size / 2, y + size / 2), fill=thing.ink)
        return
    c, s = cos(thing.angle * pi / 180) * size, sin(thing.angle * pi / 180) * size
    pen.polygon([(x + u * c - v * s, y + u * s + v * c) for u, v in _UNIT_SHAPES[thing.name]], fill=thing.ink)


def _draw_digit(canvas: Image.Image, thing: Thing, drawing: int, scale: int) -> None:
    side = max(8, round(thing.size * scale))
    step = 9 / side
    c, s = cos(thing.angle * pi / 180) * step, sin(thing.angle * pi / 180) * step
    middle = side / 2
    to_drawing = (c, s, 5 - c * middle - s * middle, -s, c, 5 + s * middle - c * middle)
    mask = (
        Image.fromarray(np.pad(digits.drawings()[drawing], 1))
        .transform((side, side), Image.Transform.AFFINE, to_drawing, Image.Resampling.BICUBIC)
        .point(_DIGIT_CONTRAST)
    )
    canvas.paste(thing.ink, (round(thing.x * scale - middle), round(thing.y * scale - middle)), mask)


def _with_noise(picture: Image.Image, deviation: float) -> Image.Image:
    pixels = np.asarray(picture)
    rng = np.random.default_rng(int(deviation * 1e6))
    noise = rng.normal(0, deviation, pixels.shape[:2]).astype(np.float32)[..., None]
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))
