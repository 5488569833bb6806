"""One health check of one service, over TLS if need be. Kubernetes' own gRPC probe has no TLS."""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from internvl.transport.channel import open_channel
from internvl.transport.tls import TlsFiles, channel_credentials

_MESSAGE_BYTES = 1 << 20


async def is_serving(
    address: str, service: str = "", tls: TlsFiles | None = None, *, server_name: str = "", seconds: float = 5.0
) -> bool:
    """Whether it can be reached and says that it serves. Raises ValueError for unusable TLS files."""
    credentials = None if tls is None else channel_credentials(tls)
    async with open_channel(
        address, max_message_bytes=_MESSAGE_BYTES, credentials=credentials, server_name=server_name
    ) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=seconds)  # type: ignore[attr-defined]
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
