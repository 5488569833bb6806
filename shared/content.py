"""Names made from content: what the store's keys and the media ids of clients are. Needs nothing but hashlib."""

import hashlib
import re
import struct


def content_key(*parts: str | bytes) -> str:
    """SHA-256 over the parts, each with its length before it, so that no two lists of parts run together."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(struct.pack("<Q", len(data)))
        digest.update(data)
    return digest.hexdigest()


def content_digest(data: bytes) -> bytes:
    """SHA-256 of a file."""
    return hashlib.sha256(data).digest()


def media_id(tenant: str, content_digest: bytes) -> str:
    """The id a client may hold: bound to its tenant, and telling nothing of the content."""
    return "media_" + content_key("media", tenant, content_digest)[:48]


def is_media_id(text: str) -> bool:
    """Whether `text` can be an id that `media_id` made."""
    return re.fullmatch(r"media_[0-9a-f]{48}", text) is not None
