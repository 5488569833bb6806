"""Scenes of shapes and handwritten digits as pixels.

Knows nothing of questions. The same scene always gives the same pixels.
"""

from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw

from deploy.local.demo_model.drawing import digits
from deploy.local.demo_model.drawing.marks import Box, Drawing, Mark
from deploy.local.demo_model.drawing.scenes import Scene, Thing

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


def drawing(scene: Scene) -> Drawing:
    """The picture of a scene, and where its things are."""
    return Drawing(draw(scene), tuple(Mark(thing.name, thing.color, box(thing)) for thing in scene.things))


def box(thing: Thing) -> Box:
    """The box around a thing's ink."""
    half = thing.size / 2
    if thing.name == "circle":
        return thing.x - half, thing.y - half, thing.x + half, thing.y + half
    if thing.drawing is None:
        corners = _corners(thing, 1)
        across, down = [x for x, _ in corners], [y for _, y in corners]
        return min(across), min(down), max(across), max(down)
    inked = _digit_mask(thing, thing.drawing, 1).getbbox() or (0, 0, 1, 1)
    left, top = round(thing.x - max(8, round(thing.size)) / 2), round(thing.y - max(8, round(thing.size)) / 2)
    return left + inked[0], top + inked[1], left + inked[2], top + inked[3]


def _draw_shape(canvas: Image.Image, thing: Thing, scale: int) -> None:
    pen = ImageDraw.Draw(canvas)
    x, y, size = thing.x * scale, thing.y * scale, thing.size * scale
    if thing.name == "circle":
        pen.ellipse((x - size / 2, y - size / 2, x + size / 2, y + size / 2), fill=thing.ink)
        return
    pen.polygon(_corners(thing, scale), fill=thing.ink)


def _corners(thing: Thing, scale: int) -> list[tuple[float, float]]:
    x, y, size = thing.x * scale, thing.y * scale, thing.size * scale
    c, s = cos(thing.angle * pi / 180) * size, sin(thing.angle * pi / 180) * size
    return [(x + u * c - v * s, y + u * s + v * c) for u, v in _UNIT_SHAPES[thing.name]]


def _draw_digit(canvas: Image.Image, thing: Thing, drawing: int, scale: int) -> None:
    mask = _digit_mask(thing, drawing, scale)
    middle = mask.width / 2
    canvas.paste(thing.ink, (round(thing.x * scale - middle), round(thing.y * scale - middle)), mask)


def _digit_mask(thing: Thing, drawing: int, scale: int) -> Image.Image:
    side = max(8, round(thing.size * scale))
    step = 9 / side
    c, s = cos(thing.angle * pi / 180) * step, sin(thing.angle * pi / 180) * step
    middle = side / 2
    to_drawing = (c, s, 5 - c * middle - s * middle, -s, c, 5 + s * middle - c * middle)
    return (
        Image.fromarray(np.pad(digits.drawings()[drawing], 1))
        .transform((side, side), Image.Transform.AFFINE, to_drawing, Image.Resampling.BICUBIC)
        .point(_DIGIT_CONTRAST)
    )


def _with_noise(picture: Image.Image, deviation: float) -> Image.Image:
    pixels = np.asarray(picture)
    rng = np.random.default_rng(int(deviation * 1e6))
    noise = rng.normal(0, deviation, pixels.shape[:2]).astype(np.float32)[..., None]
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))
