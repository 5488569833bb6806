"""Where the replicas of a service are: addresses as the operator lists them, or what a DNS name resolves to.

vision-0:50051,vision-1:50051                             those
dns:///vision-headless.default.svc.cluster.local:50051    every address of the name, looked up again and again
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)
_DNS = "dns:///"

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The IP addresses of a name. Raises OSError when there are none."""


@dataclass(frozen=True)
class Target:
    """A setting of the operator: either addresses, or a name and its port."""

    addresses: tuple[str, ...] = ()
    name: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Raises ValueError."""
        if text.startswith(_DNS):
            host, port = _split(text.removeprefix(_DNS))
            return cls(name=host, port=port)
        addresses = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
        if not addresses:
            raise ValueError("no address is given")
        for address in addresses:
            _split(address)
        return cls(addresses=addresses)


class Discovery:
    """The addresses of one target now. A name that does not resolve keeps the addresses it had."""

    def __init__(self, target: Target, resolve: Resolve) -> None:
        self._target = target
        self._resolve = resolve
        self._known: tuple[str, ...] = target.addresses
        self._failing = False

    @property
    def is_fixed(self) -> bool:
        """Whether the answer is always the same."""
        return not self._target.name

    async def addresses(self) -> tuple[str, ...]:
        """host:port of each replica."""
        if self.is_fixed:
            return self._known
        try:
            found = await self._resolve(self._target.name, self._target.port)
        except OSError:
            found = []
        if found:
            self._known = tuple(sorted(f"{_bracketed(ip)}:{self._target.port}" for ip in set(found)))
        self._note(failing=not found)
        return self._known

    def _note(self, *, failing: bool) -> None:
        if failing and not self._failing:
            log.warning("a name has no addresses", extra={"host": self._target.name, "kept": len(self._known)})
        self._failing = failing


async def resolve(name: str, port: int) -> list[str]:
    """The system's answer."""
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def _split(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"{address!r} is not host:port")
    return host, int(port)


def _bracketed(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip
