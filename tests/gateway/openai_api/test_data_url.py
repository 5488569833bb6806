"""`data:` URLs as browsers read them, and as people's programs write them."""

import base64
import re

import pytest

from gateway.openai_api.data_url import data_of, why_no_url

FILE = bytes(range(256)) + b"?>?>~~"
ENCODED = base64.b64encode(FILE).decode()
PREFIX = "data:image/png;base64,"


@pytest.mark.parametrize(
    "url",
    [
        PREFIX + ENCODED,
        PREFIX + base64.encodebytes(FILE).decode(),
        PREFIX + base64.encodebytes(FILE).decode().replace("\n", "\r\n"),
        PREFIX + ENCODED + "\n",
        PREFIX + " " + ENCODED + " ",
        PREFIX + ENCODED.rstrip("="),
        PREFIX + ENCODED.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
        PREFIX + base64.urlsafe_b64encode(FILE).decode(),
        PREFIX + base64.urlsafe_b64encode(FILE).decode().rstrip("="),
        "data:image/png; base64," + ENCODED,
        "data:image/png;base64 ," + ENCODED,
        "data:image/png;name=a b.png;base64," + ENCODED,
        "data:;base64," + ENCODED,
        "DATA:IMAGE/PNG;BASE64," + ENCODED,
        "\n data:image/png;base64," + ENCODED,
        PREFIX + ENCODED + "#fragment",
    ],
)
def test_urls_of_one_file(url: str) -> None:
    assert data_of(url) == FILE


def test_without_base64_the_text_is_the_file() -> None:
    assert data_of("data:image/svg+xml,%3Csvg/%3E") == b"<svg/>"
    assert data_of("data:,a") == b"a"
    assert data_of("data:text/base64,QUJD") == b"QUJD"


def test_other_urls_are_not_read() -> None:
    for url in ("https://a.example/data:x", "file:///etc/hostname", ""):
        assert data_of(url) is None


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("data:image/png", "must be of the form data:TYPE;base64,..."),
        (PREFIX, "there are no bytes"),
        (PREFIX + "=", "not base64"),
        (PREFIX + "QQ=", "not base64"),
        (PREFIX + "Q", "not base64"),
        (PREFIX + "QQ==QQ==", "not base64"),
        (PREFIX + "QUJ$", "not base64"),
        (PREFIX + "QUJ\u00e9", "characters that no URL has"),
    ],
)
def test_what_is_wrong_is_said(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        data_of(url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "the URL is empty"),
        (ENCODED, "base64 without a URL around it: put data:image/jpeg;base64, before it"),
        (base64.encodebytes(FILE).decode(), "base64 without a URL around it"),
        (ENCODED * 100, "base64 without a URL around it"),
        ("cat.png", "a URL begins with data:, http: or https:"),
        ("//a.example/cat.png", "a URL begins with data:, http: or https:"),
    ],
)
def test_what_is_no_url_at_all(url: str, message: str) -> None:
    found = why_no_url(url)
    assert found is not None
    assert message in found


@pytest.mark.parametrize("url", [PREFIX + ENCODED, " HTTPS://a.example/b", "file:///a", "ftp://a.example"])
def test_what_has_a_scheme(url: str) -> None:
    assert why_no_url(url) is None
