"""Which addresses may be fetched from, and which IP addresses are the internet's."""

import pytest

from gateway.media.hosts import MediaHosts, is_public
from internvl.errors import UriNotAllowed

HOSTS = MediaHosts.parse("images.example.com, *.cdn.example.org, other.example.com:8443, http://store.internal:9000,")


@pytest.mark.parametrize(
    ("uri", "admitted"),
    [
        ("https://images.example.com/a.png", "https://images.example.com:443/a.png"),
        ("HTTPS://Images.Example.COM/A.png?b=%20c&d=[1]#part", "https://images.example.com:443/A.png?b=%20c&d=[1]"),
        ("https://images.example.com", "https://images.example.com:443/"),
        ("https://images.example.com:443/", "https://images.example.com:443/"),
        ("https://a.b.cdn.example.org/x", "https://a.b.cdn.example.org:443/x"),
        ("https://other.example.com:8443/x", "https://other.example.com:8443/x"),
        ("http://store.internal:9000/x", "http://store.internal:9000/x"),
        ("https://store.internal:9000/x", "https://store.internal:9000/x"),
    ],
)
def test_addresses_on_the_list(uri: str, admitted: str) -> None:
    assert str(HOSTS.admit(uri)) == admitted


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "images.example.com/a.png",
        "http://images.example.com/",  # not over http
        "https://images.example.com:8443/",
        "https://example.com/",
        "https://cdn.example.org/",  # only what is below it
        "https://evilcdn.example.org/",
        "https://images.example.com.evil.org/",
        "https://images.example.com@evil.org/",
        "https://evil.org\\@images.example.com/",
        "https://evil.org#@images.example.com/",
        "https://evil.org?@images.example.com/",
        "https://images.example.com\\.evil.org/",
        "https://user:password@images.example.com/",
        "https://images.example.com:99999999/",
        "https:images.example.com/",
        "https:///images.example.com/",
        "https://[::1]/",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://images.example.com./",
        "https://images.example.com/a b",
        "https://images.example.com/\r\nhost: evil",
        "https://images.example.com/\u00e9",
        "https://im\u0430ges.example.com/",
        "file:///etc/passwd",
        "ftp://images.example.com/",
        "https://images.example.com/" + "x" * 5000,
    ],
)
def test_addresses_that_are_refused(uri: str) -> None:
    with pytest.raises(UriNotAllowed):
        HOSTS.admit(uri)


def test_without_a_list_nothing_is_fetched() -> None:
    with pytest.raises(UriNotAllowed):
        MediaHosts.parse("").admit("https://images.example.com/a.png")


@pytest.mark.parametrize("entry", ["*", "https://", "a b", "ftp://a", "https://a/path", "a:b", "*.*.a", "[::1]"])
def test_entries_that_are_no_hosts(entry: str) -> None:
    with pytest.raises(ValueError, match="not a host"):
        MediaHosts.parse(f"images.example.com,{entry}")


@pytest.mark.parametrize("ip", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:93.184.216.34"])
def test_public_addresses(ip: str) -> None:
    assert is_public(ip)


@pytest.mark.parametrize(
    "ip",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.5.5", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "168.63.129.16",
        "::ffff:168.63.129.16", "fec0::1", "::127.0.0.1", "::ffff:0:127.0.0.1", "::ffff:0:a9fe:a9fe",
        "2002:7f00:1::", "2002:a9fe:a9fe::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not(ip: str) -> None:
    assert not is_public(ip)
