"""`data:` URLs as the WHATWG fetch standard reads them, and the url-safe alphabet as well. Pure.

What a URL says of its type is not looked at: the bytes tell.
"""

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

WHITE_SPACE = " \t\n\f\r"
_BASE64 = re.compile(r"; *base64 *$", re.IGNORECASE)
_STANDARD = bytes.maketrans(b"-_", b"+/")
_MAX_TYPE_CHARS = 1024
_SCHEMES = ("data:", "http:", "https:")
_LOOKS_LIKE_BASE64 = re.compile(r"[A-Za-z0-9+/_=\s-]{32,}")
_LOOKED_AT_CHARS = 1024


def data_of(url: str) -> bytes | None:
    """The bytes of a data: URL; None for any other. Raises ValueError with what is wrong."""
    url = url.lstrip(WHITE_SPACE)
    if url[:5].lower() != "data:":
        return None
    comma = url.find(",", 0, _MAX_TYPE_CHARS)
    if comma < 0:
        raise ValueError("a data: URL must be of the form data:TYPE;base64,...")
    body = _bytes(url[comma + 1 :])
    data = _decoded(body) if _BASE64.search(url[5:comma].strip(WHITE_SPACE)) else body
    if not data:
        raise ValueError("there are no bytes in the data: URL")
    return data


def why_no_url(url: str) -> str | None:
    """Complaint about text that begins with no scheme; None if it has one."""
    start = url[:_LOOKED_AT_CHARS].strip(WHITE_SPACE)
    if not start:
        return "the URL is empty"
    if start.lower().startswith(_SCHEMES):
        return None
    if _LOOKS_LIKE_BASE64.fullmatch(start):
        return "this is base64 without a URL around it: put data:image/jpeg;base64, before it (any type will do)"
    return None if ":" in start else "a URL begins with data:, http: or https:"


def _bytes(text: str) -> bytes:
    """The part after the comma, without a fragment, percent-decoded."""
    try:
        body = text.partition("#")[0].encode("ascii")
    except UnicodeEncodeError:
        raise ValueError("the data: URL holds characters that no URL has") from None
    return unquote_to_bytes(body) if b"%" in body else body


def _decoded(body: bytes) -> bytes:
    """Forgiving base64: white space anywhere, padding or none."""
    body = body.translate(_STANDARD, WHITE_SPACE.encode())
    if len(body) % 4 == 0 and body.endswith(b"="):
        body = body[: -2 if body.endswith(b"==") else -1]
    try:
        if b"=" in body:
            raise binascii.Error("padding to another length")
        return base64.b64decode(body + b"=" * (-len(body) % 4), validate=True)
    except binascii.Error:
        raise ValueError("the data: URL is not base64") from None
