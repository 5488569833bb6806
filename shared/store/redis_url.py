"""A Redis deployment as one URL.

    redis://user:password@host:6379/0             one server
    rediss://host:6379/0?ssl_ca_certs=/ca.pem     the same over TLS
    unix:///run/redis.sock?db=0                   on this machine
    redis+sentinel://host1:26379,host2:26379/mymaster/0?sentinel_password=...
    redis+cluster://host1:6379,host2:6379         any of its nodes

`rediss+sentinel` and `rediss+cluster` are the same over TLS. Needs no Redis client, so that settings can be checked
without one.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit


class Topology(Enum):
    """Kinds of deployment."""

    SERVER = "server"
    UNIX = "unix"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


_SCHEMES = {
    "redis": (Topology.SERVER, False),
    "rediss": (Topology.SERVER, True),
    "unix": (Topology.UNIX, False),
    "redis+sentinel": (Topology.SENTINEL, False),
    "rediss+sentinel": (Topology.SENTINEL, True),
    "redis+cluster": (Topology.CLUSTER, False),
    "rediss+cluster": (Topology.CLUSTER, True),
}
_DEFAULT_PORTS = {Topology.SERVER: 6379, Topology.SENTINEL: 26379, Topology.CLUSTER: 6379}
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class RedisUrl:
    """A URL, taken apart and checked."""

    topology: Topology
    tls: bool
    hosts: tuple[tuple[str, int], ...] = ()
    """One for a server; any number of sentinels or cluster nodes."""
    path: str = ""
    """Path of the socket file."""
    service: str = ""
    """Name that the sentinels know it by."""
    database: int = 0
    credentials: dict[str, str] = field(default_factory=dict, repr=False)
    """username and password, where given."""
    sentinel_credentials: dict[str, str] = field(default_factory=dict, repr=False)
    tls_options: dict[str, str | bool] = field(default_factory=dict)
    """ssl_ca_certs, ssl_certfile, ssl_keyfile (paths), ssl_cert_reqs (none, optional, required), ssl_check_hostname."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Raises ValueError that says what is wrong, and never repeats the URL, which may hold a password."""
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ValueError("redis_url is not a URL") from None
        if parts.scheme not in _SCHEMES:
            raise ValueError(f"redis_url must begin with one of {', '.join(f'{name}://' for name in _SCHEMES)}")
        topology, tls = _SCHEMES[parts.scheme]
        options = _options(parts, topology, tls)
        service, database = _service_and_database(parts, topology, options)
        return cls(
            topology,
            tls,
            hosts=() if topology is Topology.UNIX else _hosts(parts, topology),
            path=_socket_path(parts) if topology is Topology.UNIX else "",
            service=service,
            database=database,
            credentials=_credentials(parts),
            sentinel_credentials=_without_prefix(options, "sentinel_"),
            tls_options={name: _tls_option(name, options[name]) for name in _TLS_OPTIONS if name in options},
        )


def _options(parts: SplitResult, topology: Topology, tls: bool) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    known = {"db"} if topology is Topology.UNIX else set()
    known |= set(_TLS_OPTIONS) if tls else set()
    known |= set(_SENTINEL_OPTIONS) if topology is Topology.SENTINEL else set()
    if strangers := sorted(set(options) - known):
        raise ValueError(f"redis_url has options that {parts.scheme}:// does not know: {', '.join(strangers)}")
    return options


def _hosts(parts: SplitResult, topology: Topology) -> tuple[tuple[str, int], ...]:
    addresses = parts.netloc.rpartition("@")[2].split(",")
    if topology is Topology.SERVER and len(addresses) > 1:
        raise ValueError("redis_url names several hosts: say redis+sentinel:// or redis+cluster://")
    return tuple(_host(address, _DEFAULT_PORTS[topology]) for address in addresses)


def _host(address: str, default_port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{address}")
        port = parts.port or default_port
    except ValueError:
        raise ValueError("redis_url has an invalid port") from None
    if not parts.hostname:
        raise ValueError("redis_url names no host")
    return parts.hostname, port


def _socket_path(parts: SplitResult) -> str:
    path = unquote(parts.path)
    if not path.startswith("/"):
        raise ValueError("redis_url must name a socket file: unix:///run/redis.sock")
    return path


def _service_and_database(parts: SplitResult, topology: Topology, options: dict[str, str]) -> tuple[str, int]:
    if topology is Topology.UNIX:
        return "", _number(options.get("db", "0"))
    path = [unquote(part) for part in parts.path.split("/") if part]
    service = ""
    if topology is Topology.SENTINEL:
        if not path:
            raise ValueError("redis_url must name the service: redis+sentinel://host:26379/mymaster")
        service = path.pop(0)
    if topology is Topology.CLUSTER and path:
        raise ValueError("redis_url of a cluster has no path: a cluster has one database")
    if len(path) > 1:
        raise ValueError("redis_url has a path of too many parts")
    return service, _number(path[0]) if path else 0


def _number(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("redis_url has a database that is no number")
    return int(text)


def _credentials(parts: SplitResult) -> dict[str, str]:
    # Of several hosts, those before the first count for all: netloc is user:password@host1,host2.
    user_info = parts.netloc.rpartition("@")[0]
    username, _, password = (unquote(part) for part in user_info.partition(":"))
    return {name: value for name, value in (("username", username), ("password", password)) if value}


def _without_prefix(options: dict[str, str], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): value for name, value in options.items() if name.startswith(prefix)}


def _tls_option(name: str, value: str) -> str | bool:
    if name == "ssl_check_hostname":
        if value.lower() not in _TRUTH:
            raise ValueError(f"redis_url has an ssl_check_hostname that is neither true nor false: {value}")
        return _TRUTH[value.lower()]
    if name == "ssl_cert_reqs" and value not in ("none", "optional", "required"):
        raise ValueError(f"redis_url: ssl_cert_reqs must be none, optional or required, got {value}")
    return value
