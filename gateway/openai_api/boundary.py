"""The boundary of every HTTP request: ids, errors as answers, one log line; as `shared.serving.rpc` for gRPC."""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from gateway.openai_api.exchange import ClientGone, Exchange
from gateway.openai_api.failures import Failure, HttpRefusal
from gateway.openai_api.replies import server_sent
from internvl.errors import DeadlineExceeded, Internal, InternvlError
from shared.serving.metrics import CALL_SECONDS, CALLS
from shared.serving.request_context import REQUEST_ID_KEY, enter_request
from shared.serving.tracing import span

log = logging.getLogger(__name__)
Handler = Callable[[Exchange], Awaitable[None]]
_CLIENT_GONE = 499
"""Status that proxies log for a client that disconnected."""


class Endpoint:
    """An ASGI application of one handler. An error becomes the answer, or the last event of a stream that has begun."""

    def __init__(self, route: str, handler: Handler, *, seconds: float, quiet: bool = False) -> None:
        """`route` names it in logs and metrics; `quiet`: worth neither. `seconds`: how long an exchange may take."""
        self._route = route
        self._handler = handler
        self._seconds = seconds
        self._quiet = quiet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_at = time.monotonic()
        context = enter_request((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID_KEY] = context.request_id
            await send(message)

        exchange = Exchange(scope, receive, send_with_id)
        code, field = "", None
        try:
            with span(self._route):
                await self._answered(exchange)
        except ClientGone:
            status = _CLIENT_GONE
        except Exception as error:  # noqa: BLE001 - the last place an error can be turned into an answer
            failure = _failure(error, self._route)
            code, field = failure.code, failure.body["error"]["param"]
            if status == 0:
                await exchange.answer(failure.body, failure.status, failure.headers)
            else:
                await exchange.stream(server_sent(failure.body))
                await exchange.end_stream()
        finally:
            if not self._quiet:
                self._count(status, code.upper(), field, time.monotonic() - started_at)

    async def _answered(self, exchange: Exchange) -> None:
        """Runs the handler within the deadline of every request."""
        try:
            async with asyncio.timeout(self._seconds) as scope:
                await self._handler(exchange)
        except TimeoutError:
            if scope.expired():
                raise DeadlineExceeded(f"the request took over {self._seconds:g} s") from None
            raise

    def _count(self, status: int, reason: str, field: str | None, seconds: float) -> None:
        CALLS.labels(self._route, str(status), reason).inc()
        CALL_SECONDS.labels(self._route).observe(seconds)
        extra = {name: value for name, value in (("reason", reason), ("field", field)) if value}
        log.info("call", extra={"method": self._route, "status": status, "seconds": round(seconds, 4), **extra})


def _failure(error: Exception, route: str) -> Failure:
    known = error if isinstance(error, InternvlError | HttpRefusal) else None
    if known is None or (isinstance(known, Internal) and "error_id" not in known.metadata):
        error_id = uuid.uuid4().hex[:12]
        log.error("uncaught", exc_info=error, extra={"error_id": error_id, "method": route})
        known = Internal.with_id(error_id)
    return Failure.of(known)
