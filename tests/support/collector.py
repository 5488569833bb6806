"""A collector of traces, over real OTLP."""

import asyncio
from collections import defaultdict
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: dict[str, list[tuple[str, trace_pb2.Span]]] = defaultdict(list)
        """Trace id -> service and span."""
        self._server: Any = None
        self.endpoint = ""

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server()
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)

    async def Export(  # noqa: N802
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: object
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            names = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans[span.trace_id.hex()].append((names["service.name"], span))
        return trace_service_pb2.ExportTraceServiceResponse()

    async def trace(self, trace_id: str, names: set[str], seconds: float = 20) -> dict[str, tuple[str, trace_pb2.Span]]:
        """The trace by names of its spans, once all of `names` have come."""
        async with asyncio.timeout(seconds):
            while True:
                found = {span.name: (service, span) for service, span in self.spans[trace_id]}
                if names <= found.keys():
                    return found
                await asyncio.sleep(0.05)
