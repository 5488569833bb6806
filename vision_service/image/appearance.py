"""Look of an image in RGB: as a person sees it, or as the reference's code does.

    as_seen      alpha over white, more than 8 bits scaled to 8, turned as EXIF says
    reference    `Image.convert("RGB")`: alpha dropped, values clipped to 255, never turned

Both give the same bytes for an image that has none of these.
"""

import numpy as np
from PIL import ExifTags, Image

from vision_service.image.pictures import Pictures

_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WHITE = (255, 255, 255, 255)
_FULL_SCALES = (1.0, 255.0, 65535.0)


def as_rgb(image: Image.Image, pictures: Pictures) -> Image.Image:
    """An image that is loaded, in RGB."""
    if pictures is Pictures.REFERENCE:
        return image.convert("RGB")
    turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    rgb = _over_white(_eight_bits(image))
    return rgb if turn is None else rgb.transpose(turn)


def _over_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    transparent = image.info.get("transparency")
    if isinstance(transparent, tuple) and max(transparent) > 255:
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    seen = image.convert("RGBA")
    if image.format == "BMP" and not any(seen.getchannel("A").tobytes()):  # a fourth byte that its writer left empty
        return image.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", seen.size, _WHITE), seen).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode not in _DEEP_MODES:
        return image
    values = np.asarray(image)
    is_short = image.mode.startswith("I;16")
    gray = (values >> 8).astype(np.uint8) if is_short else _scaled(values.astype(np.float64))
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return Image.fromarray(gray)
    alpha = np.where(values == transparent, 0, 255).astype(np.uint8)
    return Image.merge("LA", (Image.fromarray(gray), Image.fromarray(alpha)))


def _scaled(values: np.ndarray) -> np.ndarray:
    """Full scale of values that no file tells: the least usual one that holds them all, else their own range."""
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    scale = next((scale for scale in _FULL_SCALES if high <= scale), None)
    if low >= 0 and scale is not None:
        low, high = 0.0, scale
    return np.floor((values - low) * (255 / max(high - low, 1e-300))).clip(0, 255).astype(np.uint8)
