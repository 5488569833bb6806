"""Channels and their limits. Part of the base install: needs grpc and nothing of a server's."""

from dataclasses import dataclass

import grpc

MIN_PING_SECONDS = 1.0
"""Servers close connections that are pinged more often than this while no data flows."""


@dataclass(frozen=True)
class Keepalive:
    """When a connection counts as dead, though nothing closed it: its peer hangs, or the network drops what is sent."""

    seconds: float = 8.0
    """Silence after which the peer is pinged, with and without calls in flight; at least MIN_PING_SECONDS."""
    timeout_seconds: float = 4.0
    """How long the peer may take to answer. Then the connection is closed and its calls fail with UNAVAILABLE."""


DEFAULT_KEEPALIVE = Keepalive()


def channel_options(max_message_bytes: int, keepalive: Keepalive) -> list[tuple[str, int | str]]:
    """Message limits both ways, and pings both ways."""
    timeout_ms = int(keepalive.timeout_seconds * 1000)
    return [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", int(keepalive.seconds * 1000)),
        ("grpc.keepalive_timeout_ms", timeout_ms),  # for data that is not acknowledged
        ("grpc.http2.ping_timeout_ms", timeout_ms),  # for pings, whose own default is a minute
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.initial_reconnect_backoff_ms", 100),
    ]


def open_channel(
    target: str,
    *,
    max_message_bytes: int,
    credentials: grpc.ChannelCredentials | None = None,
    server_name: str = "",
    keepalive: Keepalive = DEFAULT_KEEPALIVE,
) -> grpc.aio.Channel:
    """A channel to one address; in the clear unless credentials are given.

    The server's certificate must bear `server_name`, or the host of `target` if that is empty.
    """
    options = channel_options(max_message_bytes, keepalive)
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    if server_name:
        options.append(("grpc.ssl_target_name_override", server_name))
    return grpc.aio.secure_channel(target, credentials, options=options)
