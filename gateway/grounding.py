"""Regions in the text of a reply, found as they stream: `<ref>phrase</ref><box>[[x1, y1, x2, y2]]</box>`. Pure.

A box is in thousandths of its image. A point `[x, y]` is a box without extent. What is no list of such numbers is no
region. Which image is meant: the only one; of several the one that the reply named last (`Image-2`); else that of the
last message with images, if it has one; else it is not known.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from internvl.chat.v1 import chat_pb2

_REGION = re.compile(r"(?:<ref>(?P<phrase>[^<]*)</ref>\s*)?<box>(?P<boxes>[^<]*)</box>")
_NAMED = re.compile(r"\bImage-(\d{1,4})\b")
_HELD_CHARS = 4096
"""Longest text that one region is looked for in."""
_FULL = 1000
"""Thousandths of an image."""


@dataclass(frozen=True)
class ImageSize:
    """Pixels of an image as a person sees it; 0: not known."""

    width: int
    height: int

    @property
    def is_known(self) -> bool:
        return self.width > 0 and self.height > 0


@dataclass(frozen=True)
class Images:
    """Images that the regions of one reply may be in."""

    sizes: Sequence[ImageSize]
    """Size of each image of the request, in order."""
    last_message: range
    """Those of the last message with images."""


class Regions:
    """The regions of one reply. Feed text with `add`."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._held = ""
        self._named: int | None = None

    def add(self, text: str) -> list[chat_pb2.Region]:
        """Regions that the text completes."""
        self._held += text
        found: list[chat_pb2.Region] = []
        end = 0
        for match in _REGION.finditer(self._held):
            self._read_names(self._held[end : match.start()])
            found += self._regions(match["phrase"] or "", match["boxes"])
            end = match.end()
        rest = self._held[end:]
        self._read_names(rest[: max(len(rest) - _HELD_CHARS, 0)])
        self._held = rest[-_HELD_CHARS:]
        return found

    def _read_names(self, text: str) -> None:
        for name in _NAMED.finditer(text):
            if 0 < int(name[1]) <= len(self._images.sizes):
                self._named = int(name[1]) - 1

    def _regions(self, phrase: str, boxes: str) -> Iterator[chat_pb2.Region]:
        image = self._image()
        for box in _boxes(boxes):
            region = chat_pb2.Region(phrase=phrase.strip(), image_index=image, thousandths=box)
            if image is not None and (size := self._images.sizes[image]).is_known:
                across, down = size.width / _FULL, size.height / _FULL
                pixels = chat_pb2.Box(x1=box.x1 * across, y1=box.y1 * down, x2=box.x2 * across, y2=box.y2 * down)
                region.pixels.CopyFrom(pixels)
                region.point.x, region.point.y = (pixels.x1 + pixels.x2) / 2, (pixels.y1 + pixels.y2) / 2
            yield region

    def _image(self) -> int | None:
        if len(self._images.sizes) == 1:
            return 0
        if self._named is not None:
            return self._named
        last = self._images.last_message
        return last[0] if len(last) == 1 else None


def _boxes(text: str) -> Iterator[chat_pb2.Box]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return
    boxes = value if isinstance(value, list) and value and isinstance(value[0], list) else [value]
    for box in boxes:
        if not isinstance(box, list) or len(box) not in (2, 4):
            continue
        if not all(isinstance(each, int | float) and 0 <= each <= _FULL for each in box):
            continue
        x1, y1, x2, y2 = box if len(box) == 4 else (*box, *box)
        yield chat_pb2.Box(x1=min(x1, x2), y1=min(y1, y2), x2=max(x1, x2), y2=max(y1, y2))
