"""Bytes to an RGB image, and nothing a decoder says gets out.

Only the formats named here are tried, and size is judged by the header before anything is decoded.
"""

import io
from dataclasses import dataclass

from PIL import AvifImagePlugin, Image, ImageCms, MpoImagePlugin, TiffImagePlugin, WebPImagePlugin

from internvl.errors import ImageTooLarge, ImageUnreadable
from vision_service.file_kinds import PNG, FileKind, Medium, file_kind
from vision_service.image.appearance import as_rgb
from vision_service.image.damage import MOST_MISSING, salvaged
from vision_service.image.pictures import Pictures
from vision_service.image.png_chunks import shown_chunks

try:
    import pillow_heif
except ModuleNotFoundError:
    HAS_HEIC = False
else:
    pillow_heif.register_heif_opener(thumbnails=False)
    HAS_HEIC = True

# Loaded here, because where files are decoded nothing can be loaded any more: Pillow would do it at the first file.
Image.preinit()
_NOT_IN_PREINIT = (AvifImagePlugin, ImageCms, MpoImagePlugin, TiffImagePlugin, WebPImagePlugin)
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
NAMES = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF", *(("HEIC",) if HAS_HEIC else ()))
FORMATS = tuple({"WebP": "WEBP", "HEIC": "HEIF"}.get(name, name) for name in NAMES)
_SEVERAL_VIEWS = ("MPO",)
"""Formats whose further images are other views of the first, such as a depth map."""


@dataclass(frozen=True)
class ImageLimits:
    """Limits that are checked before decoding."""

    max_bytes: int
    max_pixels: int
    max_side: int


def decode_image(data: bytes, limits: ImageLimits, pictures: Pictures = Pictures.AS_SEEN) -> Image.Image:
    """The image as RGB; of an animation the first frame. Raises ImageUnreadable, ImageTooLarge, MemoryError."""
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(f"an image of {len(data)} bytes; at most {limits.max_bytes} are accepted", field="data")
    kind = file_kind(data)
    data = shown_chunks(data) if kind is PNG else data
    image = _open(data, kind)
    _check_size(image, limits)
    try:
        return as_rgb(_loaded(image, data, kind), pictures)
    except (MemoryError, ImageUnreadable):
        raise
    except Exception as error:  # on hostile bytes a decoder may raise anything
        raise _damaged(kind) from error


def page_count(data: bytes) -> int:
    """Pages or frames of a file that `decode_image` takes, of which it shows the first."""
    kind = file_kind(data)
    image = _open(shown_chunks(data) if kind is PNG else data, kind)
    if image.format in _SEVERAL_VIEWS:
        return 1
    try:
        return max(1, int(getattr(image, "n_frames", 1)))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - of pages that are damaged, none but the first is known
        return 1


def _open(data: bytes, kind: FileKind | None) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge("an image of more pixels than are accepted", field="data") from error
    except MemoryError:
        raise
    except Exception as error:  # on hostile bytes a decoder may raise anything
        raise _unreadable(kind) from error


def _check_size(image: Image.Image, limits: ImageLimits) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageUnreadable("an image without pixels", field="data")
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise ImageTooLarge(
            f"an image of {width}x{height} pixels; at most {limits.max_pixels} pixels and "
            f"{limits.max_side} a side are accepted",
            field="data",
        )


def _loaded(image: Image.Image, data: bytes, kind: FileKind | None) -> Image.Image:
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # on hostile bytes a decoder may raise anything
        found = salvaged(data, FORMATS)
        if found is None or found[1] == 1:
            raise _damaged(kind) from error
        image, missing = found
        if missing > MOST_MISSING:
            raise ImageUnreadable(
                f"{missing:.0%} of the {_name(kind)} image are missing or damaged: send the file again, whole",
                field="data",
            ) from error
    return image


def _unreadable(kind: FileKind | None) -> ImageUnreadable:
    """For a file that cannot be opened."""
    if kind is not None and kind.name in NAMES:
        return _damaged(kind)
    formats = f"{', '.join(NAMES[:-1])} or {NAMES[-1]}"
    match kind:
        case None:
            message = f"the file is not an image in one of the formats {formats}"
        case FileKind(medium=Medium.IMAGE):
            message = f"the file is {kind.name}, which is not accepted: convert it to JPEG or PNG"
        case FileKind(medium=Medium.VIDEO):
            message = f"the file is {kind.name}, a video: send it as a video"
        case _:
            message = f"the file is {kind.name}, not an image: send {formats}"
    return ImageUnreadable(message, field="data")


def _damaged(kind: FileKind | None) -> ImageUnreadable:
    return ImageUnreadable(f"the {_name(kind)} image is cut off or damaged: send the file again, whole", field="data")


def _name(kind: FileKind | None) -> str:
    return "" if kind is None else kind.name
