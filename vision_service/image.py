"""Bytes to RGB image, and nothing a decoder says gets out: step 2 of the data's path for pictures.

Only the formats named here are tried, and size is judged by the header before anything is decoded. Modes are converted
as the reference does: alpha is dropped, 16-bit and float values are clipped to 255, EXIF orientation is ignored
unless the operator asks for it.
"""

import io
from dataclasses import dataclass

from PIL import Image, ImageOps, MpoImagePlugin, TiffImagePlugin, WebPImagePlugin

from internvl.errors import ImageTooLarge, ImageUnreadable

# Loaded here, because where files are decoded nothing can be loaded any more: Pillow would do it at the first file.
Image.preinit()
_NOT_IN_PREINIT = (MpoImagePlugin, TiffImagePlugin, WebPImagePlugin)
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


@dataclass(frozen=True)
class ImageLimits:
    """What is refused before it is decoded."""

    max_bytes: int
    max_pixels: int
    max_side: int


def decode_image(data: bytes, limits: ImageLimits, *, exif_orientation: bool = False) -> Image.Image:
    """The picture as RGB; of an animation the first frame. Raises ImageUnreadable, ImageTooLarge, MemoryError."""
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(f"a picture of {len(data)} bytes; at most {limits.max_bytes} are accepted", field="data")
    image = _open(data)
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageUnreadable("a picture without pixels", field="data")
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise ImageTooLarge(
            f"a picture of {width}x{height} pixels; at most {limits.max_pixels} pixels and "
            f"{limits.max_side} a side are accepted",
            field="data",
        )
    try:
        if exif_orientation:
            image = ImageOps.exif_transpose(image)
        return image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # on hostile bytes a decoder may raise anything
        raise ImageUnreadable("the picture is cut off or damaged", field="data") from error


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge("a picture of more pixels than are accepted", field="data") from error
    except MemoryError:
        raise
    except Exception as error:  # on hostile bytes a decoder may raise anything
        raise ImageUnreadable(f"not a picture in one of the formats {', '.join(FORMATS)}", field="data") from error
