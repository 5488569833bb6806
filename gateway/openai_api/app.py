"""The endpoint's routes.

POST /v1/chat/completions     GET /v1/models     GET /v1/models/MODEL     GET /health     GET /metrics
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.chat import Chat
from gateway.openai_api.body import ChatBody, read_body
from gateway.openai_api.boundary import Endpoint, Handler
from gateway.openai_api.conversation import chat_requests, public_field
from gateway.openai_api.exchange import Exchange
from gateway.openai_api.failures import Failure, HttpRefusal
from gateway.openai_api.merged import merged
from gateway.openai_api.replies import Completion, Json, server_sent
from gateway.replicas.backends import Backends
from gateway.settings import GatewaySettings
from gateway.tenancy.admission import Admission
from gateway.tenancy.tenants import Tenant, Tenants, one_authorization
from internvl.chat.v1 import chat_pb2
from internvl.common.v1.visual_pb2 import ModelInfo
from internvl.errors import InternvlError, Unavailable
from internvl.transport.deadline import Deadline
from shared.serving.metrics import render_metrics
from shared.serving.request_context import REQUEST_ID_KEY, enter_request

_LARGE_BYTES = 256 << 10
"""Below this, reading a body takes less time than handing it to a thread."""

Events = AsyncGenerator[tuple[int, chat_pb2.ChatResponse], None]


class OpenAiApi:
    """Handlers; `app` is the ASGI application."""

    def __init__(
        self, chat: Chat, backends: Backends, admission: Admission, tenants: Tenants, settings: GatewaySettings
    ) -> None:
        self._chat = chat
        self._backends = backends
        self._admission = admission
        self._tenants = tenants
        self._max_body_bytes = settings.max_http_body_bytes
        self._deadline_seconds = settings.http_deadline_seconds
        self._shows_metrics = settings.http_metrics
        self._middleware = _cross_origin(settings.http_origins)
        self._started_at = int(time.time())

    def app(self) -> Starlette:
        """The application."""
        handlers: tuple[tuple[str, str, Handler], ...] = (
            ("POST", "/v1/chat/completions", self._complete),
            ("GET", "/v1/models", self._list_models),
            ("GET", "/v1/models/{model:path}", self._show_model),
        )
        quiet = [("/health", self._check_health)]
        if self._shows_metrics:
            quiet.append(("/metrics", self._show_metrics))
        seconds = self._deadline_seconds
        routes = [
            Route(spelling, Endpoint(path, handler, seconds=seconds), methods=[method])
            for method, path, handler in handlers
            for spelling in (path, f"{path}/")
        ]
        routes += [
            Route(spelling, Endpoint(path, handler, seconds=seconds, quiet=True), methods=["GET"])
            for path, handler in quiet
            for spelling in (path, f"{path}/")
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: _unrouted}, middleware=self._middleware)
        app.router.redirect_slashes = False  # a redirect would send the caller to whatever its Host header says
        return app

    async def _complete(self, exchange: Exchange) -> None:
        deadline = Deadline.after(self._deadline_seconds)
        tenant = self._identified(exchange)
        size_bytes = exchange.body_bytes(self._max_body_bytes)
        data = await exchange.body(size_bytes)  # before a slot is taken: a slow sender keeps none from others
        async with AsyncExitStack() as stack:
            visit = await stack.enter_async_context(self._admission.enter(tenant, size_bytes=size_bytes))
            body, requests = await _read(data)
            info = self._served(body.model)
            await stack.enter_async_context(exchange.while_connected())
            stack.enter_context(_fields_of(body))
            replies = []
            for index, request in enumerate(requests):
                if index > 0:  # every further choice is a request like any other
                    visit = await stack.enter_async_context(self._admission.enter(tenant, size_bytes=0))
                replies.append(self._chat.answer(request, tenant=tenant.name, deadline=deadline, spend=visit.spend))
            events = merged(replies)
            await stack.enter_async_context(aclosing(events))
            await _answer(exchange, body, info, events)

    async def _list_models(self, exchange: Exchange) -> None:
        self._identified(exchange)
        await exchange.answer({"object": "list", "data": [self._model(self._backends.model_info())]})

    async def _show_model(self, exchange: Exchange) -> None:
        self._identified(exchange)
        info = self._served(exchange.path.removeprefix("/v1/models/"))
        await exchange.answer(self._model(info))

    async def _check_health(self, exchange: Exchange) -> None:
        """Whether a chat would be answered; needs no key."""
        try:
            self._backends.model_info()
        except Unavailable as error:
            await exchange.answer({"status": "unavailable", "reason": error.reason()}, 503)
        else:
            await exchange.answer({"status": "ok"})

    async def _show_metrics(self, exchange: Exchange) -> None:
        """The metrics that the metrics port serves; needs no key, and names no tenant."""
        body, content_type = render_metrics()
        await exchange.answer_bytes(body, {"content-type": content_type})

    def _identified(self, exchange: Exchange) -> Tenant:
        return self._tenants.identify(one_authorization(exchange.headers.getlist("authorization")))

    def _served(self, name: str) -> ModelInfo:
        info = self._backends.model_info()
        if name != info.model:
            raise HttpRefusal(404, "model_not_found", f"no such model here: there is {info.model}", param="model")
        return info

    def _model(self, info: ModelInfo) -> Json:
        return {
            "id": info.model,
            "object": "model",
            "created": self._started_at,
            "owned_by": "internvl-serving",
            "max_model_len": info.max_positions,
        }


async def _read(data: bytes) -> tuple[ChatBody, list[chat_pb2.ChatRequest]]:
    """In a thread where there are images to decode from base64, so that other replies do not wait."""

    def read() -> tuple[ChatBody, list[chat_pb2.ChatRequest]]:
        body = read_body(data)
        return body, chat_requests(body)

    return read() if len(data) < _LARGE_BYTES else await asyncio.to_thread(read)


def _cross_origin(origins: str) -> list[Middleware]:
    """CORS for pages of these origins, on answers of every kind; none without origins."""
    allowed = [origin.strip() for origin in origins.split(",") if origin.strip()]
    if not allowed:
        return []
    exposed = [REQUEST_ID_KEY, "retry-after"]
    return [
        Middleware(
            CORSMiddleware, allow_origins=allowed, allow_methods=["*"], allow_headers=["*"], expose_headers=exposed
        )
    ]


@contextmanager
def _fields_of(body: ChatBody) -> Iterator[None]:
    """Fields at fault get the names that the client knows them by."""
    try:
        yield
    except InternvlError as error:
        raise error.at(public_field(error.field, body) if error.field else None) from error


async def _answer(exchange: Exchange, body: ChatBody, info: ModelInfo, events: Events) -> None:
    """Whole, or as a stream that begins with the first piece of text: what fails before has a status of its own."""
    index, event = await anext(events)
    completion = Completion(event.started.response_id, info.model, info.fingerprint, body.n or 1)
    chunks = [completion.take(index, event)]
    if not body.stream:
        async for index, event in events:
            completion.take(index, event)
        await exchange.answer(completion.whole())
        return
    while event.HasField("started"):
        index, event = await anext(events)
        chunks.append(completion.take(index, event))
    usage = {"usage": None} if _wants_usage(body) else {}
    await exchange.start_stream()
    for chunk in chunks:
        await exchange.stream(server_sent(chunk | usage))
    async for index, event in events:
        await exchange.stream(server_sent(completion.take(index, event) | usage))
    if usage:
        await exchange.stream(server_sent(completion.usage_chunk()))
    await exchange.stream(server_sent("[DONE]"))
    await exchange.end_stream()


def _wants_usage(body: ChatBody) -> bool:
    return body.stream_options is not None and bool(body.stream_options.include_usage)


async def _unrouted(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        refusal = HttpRefusal(405, "method_not_allowed", "the path does not take this method")
    else:
        refusal = HttpRefusal(404, "not_found", "there is nothing at this path")
    failure = Failure.of(refusal)
    headers = {**(error.headers or {}), REQUEST_ID_KEY: enter_request(request.headers.items()).request_id}
    return JSONResponse(failure.body, failure.status, headers=headers)
