"""Spans of a request over all services, as OpenTelemetry has them. Off, and free, unless a collector is named.

    async with tracing(settings):                # in the process, once
        with span("encode", tiles=7):            # around work; what is called inside is its child, in any service
            ...
        record("queue", started, ended)          # of work that was timed elsewhere

The parent is the request's `traceparent` (`request_context`), and inside a span that is the span's own, so it travels
with every call that is made there.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from shared.serving.request_context import current_request, set_request
from shared.serving.settings import ServiceSettings

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer

Attribute = str | int | float | bool
_tracer: "Tracer | None" = None


@asynccontextmanager
async def tracing(settings: ServiceSettings) -> AsyncIterator[None]:
    """Sends spans to `settings.otlp_endpoint` while the context lasts. Raises ValueError if they cannot be made."""
    global _tracer
    if not settings.otlp_endpoint:
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
    except ImportError as error:
        raise ValueError("otlp_endpoint needs OpenTelemetry: install internvl-serving[traces]") from error
    resource = Resource.create({"service.name": f"internvl-{settings.service}"})
    provider = TracerProvider(
        resource=resource, sampler=ParentBasedTraceIdRatio(settings.trace_ratio), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.otlp_endpoint)))
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # a collector that is away is said once a batch
    _tracer = provider.get_tracer("internvl")
    try:
        yield
    finally:
        _tracer = None
        await asyncio.to_thread(provider.shutdown)  # sends what is left


@contextmanager
def span(name: str, **attributes: Attribute) -> Iterator[None]:
    """Around a piece of the current request's work. An exception marks it as failed."""
    if _tracer is None:
        yield
        return
    from opentelemetry.trace import Status, StatusCode

    before = current_request()
    made = _tracer.start_span(name, context=_parent(), attributes=attributes, record_exception=False)
    found = made.get_span_context()
    if before is not None:
        flags = int(found.trace_flags)
        set_request(before.with_traceparent(f"00-{found.trace_id:032x}-{found.span_id:016x}-{flags:02x}"))
    try:
        yield
    except Exception as error:
        made.set_status(Status(StatusCode.ERROR, type(error).__name__))
        raise
    finally:
        set_request(before)
        made.end()


def record(name: str, start_ns: int, end_ns: int, **attributes: Attribute) -> None:
    """A piece of the current request's work that is over; times as of time.time_ns()."""
    if _tracer is not None and end_ns >= start_ns:
        _tracer.start_span(name, context=_parent(), start_time=start_ns, attributes=attributes).end(end_ns)


class PhaseClock:
    """Times of a reply's phases, and their spans: queue, prefill, decode."""

    def __init__(self) -> None:
        self._submitted = time.time_ns()
        self._first = self._last = 0
        self._queue_ns = 0
        self._count = 0

    def started(self, queue_seconds: float) -> None:
        """Its first step began after so long."""
        self._queue_ns = int(queue_seconds * 1e9)

    def token(self) -> None:
        """One has come."""
        self._last = time.time_ns()
        self._count += 1
        self._first = self._first or self._last

    def record(self) -> None:
        """The reply is over."""
        if self._first:
            started = min(self._submitted + self._queue_ns, self._first)
            record("queue", self._submitted, started)
            record("prefill", started, self._first)
            record("decode", self._first, self._last, tokens=self._count)


def _parent() -> "Context":
    """Parent of a new span: the one that the request's traceparent names, or none."""
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    request = current_request()
    if request is None or not request.traceparent:
        return Context()
    _, trace_id, span_id, flags = request.traceparent.split("-")[:4]
    context = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return set_span_in_context(NonRecordingSpan(context), Context())
