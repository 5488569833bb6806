"""Addresses as people write them, made what gRPC takes."""

import ipaddress
import re

_PREFIX = re.compile(r"(?:dns:(?://[^/]*/)?|ipv[46]:)?")
"""Schemes of gRPC whose addresses have ports; `unix:` and others are left unchanged."""
_HOST = re.compile(r"[\w.-]+|\[[^\[\]]+\]")


def with_port(address: str, port: int) -> str:
    """The address, with `port` wherever it has none: gRPC would take 443. Raises ValueError for a URL or nothing.

    Takes `host`, `host:port`, `::1`, `[::1]:port`, and gRPC's own `dns:///name:port`, `ipv4:10.0.0.1,10.0.0.2:50050`.
    """
    prefix = _PREFIX.match(address)
    assert prefix is not None
    rest = address[prefix.end() :]
    if not rest or "://" in rest:
        raise ValueError(f"{address!r} is not an address: host or host:port")
    return prefix[0] + ",".join(_with_port(each, port) for each in rest.split(","))


def _with_port(host: str, port: int) -> str:
    if _HOST.fullmatch(host):
        return f"{host}:{port}"
    return f"[{host}]:{port}" if _is_ipv6(host) else host


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False
