"""Whose view of an image is taken: a setting, and part of the embedding key."""

from enum import StrEnum


class Pictures(StrEnum):
    """What becomes of alpha, of more than 8 bits, and of EXIF orientation: `appearance.py` says it."""

    AS_SEEN = "as_seen"
    REFERENCE = "reference"
