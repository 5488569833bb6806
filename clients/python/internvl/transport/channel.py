"""Channels and their limits. Part of the base install: needs grpc and nothing of a server's."""

import grpc


def channel_options(max_message_bytes: int) -> list[tuple[str, int | str]]:
    """Message limits both ways, and pings that notice a dead peer within half a minute."""
    return [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
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
) -> grpc.aio.Channel:
    """A channel to one address; in the clear unless credentials are given.

    The server's certificate must bear `server_name`, or the host of `target` if that is empty.
    """
    options = channel_options(max_message_bytes)
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    if server_name:
        options.append(("grpc.ssl_target_name_override", server_name))
    return grpc.aio.secure_channel(target, credentials, options=options)
