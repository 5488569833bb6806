"""Addresses that images and videos may be fetched from. Pure: decides, and makes no request.

    images.example.com            https, port 443
    images.example.com:8443       https, that port
    *.example.com                 every name below it, not itself
    http://store.internal:9000    http as well

An address is read once, by one pattern that knows nothing but names, ports and paths, and what it found is what is
connected to. A guard that reads an address with one parser and fetches it with another is how attackers come in.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from internvl.errors import UriNotAllowed

_NAME = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_ENTRY = re.compile(rf"(?P<scheme>https?://)?(?P<name>(?:\*\.)?{_NAME})(?::(?P<port>[0-9]{{1,5}}))?")
_ADDRESS = re.compile(
    rf"(?P<scheme>https?)://(?P<name>{_NAME})(?::(?P<port>[0-9]{{1,5}}))?(?P<target>/[!-\"$-\[\]-~]*)?(?:#[!-~]*)?",
    re.IGNORECASE,
)
_MAX_CHARS = 4096
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True)
class MediaAddress:
    """Host to connect to, and path to ask for there."""

    scheme: str
    host: str
    port: int
    target: str
    """Path and query."""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}{self.target}"


@dataclass(frozen=True)
class _Host:
    name: str
    port: int
    allows_http: bool

    def fits(self, address: MediaAddress) -> bool:
        if address.scheme == "http" and not self.allows_http:
            return False
        if address.port != self.port:
            return False
        if self.name.startswith("*."):
            return address.host.endswith(self.name[1:])
        return address.host == self.name


class MediaHosts:
    """The operator's list."""

    def __init__(self, entries: Iterable[str]) -> None:
        """Raises ValueError that names the invalid entry."""
        self._hosts = tuple(_host(entry) for entry in entries)

    @classmethod
    def parse(cls, text: str) -> Self:
        """From entries separated by commas. Raises ValueError."""
        return cls(entry for part in text.split(",") if (entry := part.strip()))

    def admit(self, uri: str) -> MediaAddress:
        """Where `uri` leads, if it may be fetched. Raises UriNotAllowed."""
        found = _ADDRESS.fullmatch(uri) if len(uri) <= _MAX_CHARS else None
        if found is None:
            raise UriNotAllowed("not an http or https address of a name, with a path of ASCII characters")
        scheme = found["scheme"].lower()
        address = MediaAddress(
            scheme, found["name"].lower(), int(found["port"] or _PORTS[scheme]), found["target"] or "/"
        )
        if not any(host.fits(address) for host in self._hosts):
            raise UriNotAllowed("the operator does not allow fetching from there: send the bytes")
        return address


_TRANSLATED = (
    ipaddress.IPv6Network("64:ff9b::/96"),  # NAT64 (RFC 6052)
    ipaddress.IPv6Network("::ffff:0:0:0/96"),  # IPv4-translated (RFC 2765)
    ipaddress.IPv6Network("::/96"),  # IPv4-compatible (RFC 4291)
)
_RESERVED: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = (
    ipaddress.IPv6Network("64:ff9b:1::/48"),  # NAT64 for local use (RFC 8215)
    ipaddress.IPv6Network("fec0::/10"),  # site-local (RFC 3879)
    ipaddress.IPv4Network("168.63.129.16/32"),  # Azure's platform
)
"""Addresses that Python takes for public ones and that lead into a network or a cloud's own services."""


def is_public(ip: str) -> bool:
    """Whether an IP address is one of the internet: not this machine's, this network's or a cloud's own."""
    address = ipaddress.ip_address(ip)
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or _translated(address)
        if inner is not None:
            address = inner
    is_reserved = any(address in network for network in _RESERVED if network.version == address.version)
    return address.is_global and not address.is_multicast and not is_reserved


def _translated(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one of these networks stands for."""
    if any(address in network for network in _TRANSLATED):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _host(entry: str) -> _Host:
    found = _ENTRY.fullmatch(entry.lower())
    if found is None:
        raise ValueError(f"not a host to fetch media from: {entry!r}")
    allows_http = found["scheme"] == "http://"
    port = int(found["port"] or (80 if allows_http else 443))
    return _Host(found["name"], port, allows_http)
