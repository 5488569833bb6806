"""Context that travels with a request through all services: its id, and the trace it is part of.

    x-request-id   the caller's if it is printable ASCII of at most 128 characters, else a new one
    traceparent    W3C Trace Context, level 1 and what later versions may append; dropped unless it is well formed
    tracestate     only with a traceparent; not looked into

A handler enters its request; whatever runs below it finds the context in a context variable, logs it, and passes it on
with each call. Nothing is recorded here: a span (`tracing`) puts its own `traceparent` in place while it lasts.
"""

import re
import uuid
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Self

REQUEST_ID_KEY = "x-request-id"
TRACEPARENT_KEY = "traceparent"
TRACESTATE_KEY = "tracestate"
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[\x21-\x7e]{0,128})?"
)
_TRACESTATE = re.compile(r"[\x20-\x7e]{1,512}")
_VERSION_0_CHARS = 55


@dataclass(frozen=True)
class RequestContext:
    """Context of one request. Empty strings: the caller sent none that can be used."""

    request_id: str
    traceparent: str = ""
    tracestate: str = ""

    @classmethod
    def from_metadata(cls, metadata: Iterable[tuple[str, str | bytes]]) -> Self:
        """From gRPC metadata or HTTP headers, names in lower case. Never fails."""
        received: dict[str, list[str]] = {}
        for key, value in metadata:
            if isinstance(value, str):
                received.setdefault(key, []).append(value.strip())
        offered = received.get(REQUEST_ID_KEY, [""])[0]
        traceparent = _well_formed(received.get(TRACEPARENT_KEY, []))
        tracestate = ",".join(filter(None, received.get(TRACESTATE_KEY, [])))
        return cls(
            request_id=offered if _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex,
            traceparent=traceparent,
            tracestate=tracestate if traceparent and _TRACESTATE.fullmatch(tracestate) else "",
        )

    def with_traceparent(self, traceparent: str) -> Self:
        """The same request inside another span."""
        return replace(self, traceparent=traceparent)

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits, or ""."""
        return self.traceparent[3:35]

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Metadata for a call to the next service."""
        pairs = (
            (REQUEST_ID_KEY, self.request_id),
            (TRACEPARENT_KEY, self.traceparent),
            (TRACESTATE_KEY, self.tracestate),
        )
        return tuple((key, value) for key, value in pairs if value)

    def log_fields(self) -> dict[str, str]:
        """Fields for a log line."""
        fields = {"request_id": self.request_id, "trace_id": self.trace_id}
        return {name: value for name, value in fields.items() if value}


_current: ContextVar[RequestContext | None] = ContextVar("request_context", default=None)


def current_request() -> RequestContext | None:
    """The request being handled; None outside one."""
    return _current.get()


def set_request(context: RequestContext | None) -> None:
    """For the rest of this context."""
    _current.set(context)


def enter_request(metadata: Iterable[tuple[str, str | bytes]]) -> RequestContext:
    """Takes over what the caller sent; for the rest of this context."""
    context = RequestContext.from_metadata(metadata)
    _current.set(context)
    return context


def outgoing_metadata() -> tuple[tuple[str, str], ...]:
    """Metadata for a call made now; none outside a request."""
    context = _current.get()
    return () if context is None else context.metadata()


def _well_formed(values: list[str]) -> str:
    """The one traceparent, or "": two of them cannot both be right."""
    if len(values) != 1 or not _TRACEPARENT.fullmatch(values[0]):
        return ""
    is_version_0 = values[0].startswith("00-")
    return "" if is_version_0 and len(values[0]) != _VERSION_0_CHARS else values[0]
