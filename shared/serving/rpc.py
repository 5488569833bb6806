"""The gRPC server of every service: limits, TLS, health, reflection, statuses, request ids, drain.

    server = Server(settings)
    add_VisionServiceServicer_to_server(servicer, server.grpc)
    await server.run("internvl.vision.v1.VisionService")

An exception of `internvl.errors` leaves a handler as its status. Any other leaves as INTERNAL with an error id, and
its traceback goes to the log.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import os
import signal
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from internvl import errors
from internvl.transport.channel import MIN_PING_SECONDS, channel_options
from internvl.transport.status import DETAILS_KEY, status_code, to_status
from shared.serving.metrics import CALL_SECONDS, CALLS, metrics_server
from shared.serving.request_context import REQUEST_ID_KEY, enter_request
from shared.serving.settings import ServiceSettings
from shared.serving.tls import server_credentials
from shared.serving.tracing import span, tracing

log = logging.getLogger(__name__)
LIVENESS = "liveness"
"""Name that health checks answer for as long as the process serves at all, whatever is behind it."""
GAVE_UP = 70
"""Exit status of a service whose device hangs or whose work has died: its supervisor should start another."""
_LAST_SECONDS = 3.0
"""For calls that end, and again for what is closed, before the process does."""
_QUIET_PREFIXES = ("/grpc.health.", "/grpc.reflection.")
_POLLED = ("/GetModelInfo", "/GetStatus")
"""Methods that gateways poll each second: logged at debug level only."""


class Server:
    """A grpc.aio server with what all services share. Add servicers to `grpc`, then `run`."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._health = health.aio.HealthServicer()
        options = [
            *channel_options(settings.max_message_bytes, settings.keepalive),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", int(MIN_PING_SECONDS * 1000)),
        ]
        self.grpc = grpc.aio.server(interceptors=[_Boundary(settings.default_deadline_seconds)], options=options)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        self.port = self._bind()
        self.stopping = asyncio.Event()
        """Set by SIGTERM or SIGINT once the server runs."""

    async def set_serving(self, services: Sequence[str], *, serving: bool) -> None:
        """Answers health checks for the services, and for the server as a whole."""
        status = health_pb2.HealthCheckResponse
        for name in ("", *services):
            await self._health.set(name, status.SERVING if serving else status.NOT_SERVING)

    async def run(self, *services: str, healthy: bool = True) -> None:
        """Serves until SIGTERM or SIGINT, then drains: health turns, new calls are refused, those in flight end.

        Not `healthy`: health checks fail until `set_serving` says otherwise.
        """
        _set_by_signals(self.stopping)
        settings = self._settings
        metrics = metrics_server(settings.service, settings.host, settings.metrics_port)
        async with tracing(settings):
            with metrics as metrics_port:
                if metrics_port is not None:
                    log.info("metrics", extra={"address": f"{settings.host}:{metrics_port}"})
                await self._serve_until_stopped(services, healthy=healthy)

    async def _serve_until_stopped(self, services: Sequence[str], *, healthy: bool) -> None:
        names = [*services, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, self.grpc)
        await self.set_serving(services, serving=healthy)
        await self._health.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        await self.grpc.start()
        log.info("serving", extra={"address": f"{self._settings.host}:{self.port}"})
        await self.stopping.wait()
        log.info("draining", extra={"seconds": self._settings.drain_seconds})
        await self._health.enter_graceful_shutdown()
        await self.grpc.stop(self._settings.drain_seconds)
        log.info("stopped")

    async def give_up(self, services: Sequence[str], cause: str, close: Callable[[], Awaitable[None]]) -> NoReturn:
        """Ends the process with GAVE_UP: its work has died or hangs, and a thread that hangs cannot be ended.

        Health turns, and requests that were failed have a moment to end. Then `close`, for as long as it may take.
        """
        await self.set_serving(services, serving=False)
        await self.grpc.stop(_LAST_SECONDS)
        with suppress(Exception):
            await asyncio.wait_for(close(), _LAST_SECONDS)
        log.critical("the process gives up", extra={"cause": cause})
        logging.shutdown()
        os._exit(GAVE_UP)

    def _bind(self) -> int:
        address = f"{self._settings.host}:{self._settings.port}"
        files = self._settings.tls_files
        if files is None:
            return self.grpc.add_insecure_port(address)
        return self.grpc.add_secure_port(address, server_credentials(files))


class _Boundary(grpc.aio.ServerInterceptor):
    """Enters the request's ids, bounds its time, translates exceptions, logs the outcome. For all kinds."""

    def __init__(self, default_deadline_seconds: float) -> None:
        self._default_deadline_seconds = default_deadline_seconds

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler: Any = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        if handler is None or method.startswith(_QUIET_PREFIXES):
            return handler
        for kind in ("unary_unary", "stream_unary", "unary_stream", "stream_stream"):
            inner = getattr(handler, kind)
            if inner is not None:
                wrap = _answering if kind.endswith("unary") else _streaming
                make = getattr(grpc, f"{kind}_rpc_method_handler")
                read = _readable_stream if kind.startswith("stream") else _readable
                wrapped = wrap(method, inner, read, self._default_deadline_seconds)
                return make(wrapped, _lenient(handler.request_deserializer), handler.response_serializer)
        return handler


class _Unreadable:
    """In place of a request whose bytes are no message."""


def _lenient(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """gRPC answers an exception in here with the exception's own words; so it is left to the handler."""

    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _Unreadable()

    return read


def _readable(request: Any) -> Any:
    """Raises InvalidRequest."""
    if isinstance(request, _Unreadable):
        raise errors.InvalidRequest("the request's bytes are not a message of this method")
    return request


async def _readable_stream(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _readable(request)


def _answering(
    method: str, inner: Callable[..., Awaitable[Any]], read: Callable[[Any], Any], seconds: float
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(inner)
    async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        call = _Call(method, context)
        try:
            await call.begin()
            async with call.bounded(seconds):
                with span(method):
                    response = await inner(read(request), context)
            call.end("OK")
            return response
        except asyncio.CancelledError:
            call.end("CANCELLED")
            raise
        except Exception as error:  # noqa: BLE001 - the last place an error can be turned into a status
            await call.fail(error)

    return handle


def _streaming(
    method: str, inner: Callable[..., AsyncGenerator[Any]], read: Callable[[Any], Any], seconds: float
) -> Callable[..., Awaitable[None]]:
    assert inspect.isasyncgenfunction(inner), f"{method} must be an async generator"

    async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        call = _Call(method, context)
        try:
            await call.begin()
            async with call.bounded(seconds):
                with span(method):
                    async with aclosing(inner(read(request), context)) as events:
                        async for event in events:
                            await context.write(event)
            call.end("OK")
        except asyncio.CancelledError:
            call.end("CANCELLED")
            raise
        except Exception as error:  # noqa: BLE001 - the last place an error can be turned into a status
            await call.fail(error)

    return handle


class _Call:
    """One call's way in and out."""

    def __init__(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._method = method
        self._context = context
        self._started = time.monotonic()

    async def begin(self) -> None:
        request = enter_request(tuple(self._context.invocation_metadata() or ()))
        await self._context.send_initial_metadata(((REQUEST_ID_KEY, request.request_id),))

    @asynccontextmanager
    async def bounded(self, seconds: float) -> AsyncIterator[None]:
        """Around the work: a call that names no deadline has this one. Raises DeadlineExceeded."""
        try:
            async with asyncio.timeout(seconds if self._context.time_remaining() is None else None) as scope:
                yield
        except TimeoutError:
            if scope.expired():
                raise errors.DeadlineExceeded(f"the call named no deadline and took over {seconds:g} s") from None
            raise

    async def fail(self, error: Exception) -> NoReturn:
        """Ends the call with the error's status."""
        if isinstance(error, grpc.aio.AbortError):
            raise error
        known = error if isinstance(error, errors.InternvlError) else self._unexpected(error)
        if isinstance(known, errors.Internal) and "error_id" not in known.metadata:  # a peer's, in the peer's words
            known = self._unexpected(known)
        self.end(status_code(known).name, reason=known.reason())
        details = ((DETAILS_KEY, to_status(known).SerializeToString()),)
        await self._context.abort(status_code(known), known.message, trailing_metadata=details)

    def _unexpected(self, error: Exception) -> errors.Internal:
        error_id = uuid.uuid4().hex[:12]
        log.error("uncaught", exc_info=error, extra={"error_id": error_id, "method": self._method})
        return errors.Internal.with_id(error_id)

    def end(self, status: str, reason: str = "") -> None:
        """Logs and counts the call."""
        seconds = time.monotonic() - self._started
        CALLS.labels(self._method, status, reason).inc()
        CALL_SECONDS.labels(self._method).observe(seconds)
        level = logging.DEBUG if self._method.endswith(_POLLED) and status == "OK" else logging.INFO
        extra = {"reason": reason} if reason else {}
        log.log(level, "call", extra={"method": self._method, "status": status, "seconds": round(seconds, 4), **extra})


def _set_by_signals(stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
