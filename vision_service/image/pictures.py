"""The setting `pictures`: the view of an image that is taken. Part of the embedding key."""

from enum import StrEnum


class Pictures(StrEnum):
    """Treatment of alpha, of more than 8 bits, and of EXIF orientation, by `appearance.py`."""

    AS_SEEN = "as_seen"
    REFERENCE = "reference"
