"""One JSON object a line, with the request id that all services share.

The id travels in the `x-request-id` metadata, next to `traceparent`, and lives in a context variable in between: a log
line written anywhere below a handler names its request without passing it down.
"""

import json
import logging
import sys
import time
import uuid
from collections.abc import Sequence
from contextvars import ContextVar

REQUEST_ID_KEY = "x-request-id"
TRACEPARENT_KEY = "traceparent"
_MAX_ID_CHARS = 128
_OWN_HANDLERS = ("transformers",)
"""Libraries that write their own lines to standard error unless told otherwise; their errors are kept."""

_request_id: ContextVar[str] = ContextVar("request_id", default="")
_traceparent: ContextVar[str] = ContextVar("traceparent", default="")
_FIELDS_OF_EVERY_RECORD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def current_request_id() -> str:
    """Id of the request being handled, or "" outside one."""
    return _request_id.get()


def enter_request(metadata: Sequence[tuple[str, str | bytes]]) -> str:
    """Takes over the caller's ids, or makes a request id; returns it. For the rest of this context."""
    received = {key: value for key, value in metadata if isinstance(value, str)}
    offered = received.get(REQUEST_ID_KEY, "")
    usable = 0 < len(offered) <= _MAX_ID_CHARS and offered.isprintable()
    _request_id.set(offered if usable else uuid.uuid4().hex)
    _traceparent.set(received.get(TRACEPARENT_KEY, ""))
    return _request_id.get()


def outgoing_metadata() -> tuple[tuple[str, str], ...]:
    """What a call to the next service carries."""
    pairs = ((REQUEST_ID_KEY, _request_id.get()), (TRACEPARENT_KEY, _traceparent.get()))
    return tuple((key, value) for key, value in pairs if value)


def configure_logging(service: str, level: str) -> None:
    """Sends every log line of this process to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter(service))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _OWN_HANDLERS:
        foreign = logging.getLogger(name)
        foreign.handlers.clear()
        foreign.propagate = True
        foreign.setLevel(logging.ERROR)


class _JsonFormatter(logging.Formatter):
    """`extra={...}` of a log call becomes fields of the object."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "service": self._service,
            "message": record.getMessage(),
        }
        if request_id := _request_id.get():
            line["request_id"] = request_id
        line.update((key, value) for key, value in record.__dict__.items() if key not in _FIELDS_OF_EVERY_RECORD)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class LoadingLog:
    """Logs how much of something is loaded, about every twentieth of it: what a progress bar reads."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._logged_twentieth = -1

    def __call__(self, loaded_bytes: int, total_bytes: int) -> None:
        twentieth = 20 * loaded_bytes // max(total_bytes, 1)
        if twentieth > self._logged_twentieth:
            self._logged_twentieth = twentieth
            extra = {"what": self._what, "loaded_bytes": loaded_bytes, "total_bytes": total_bytes}
            logging.getLogger(__name__).info("loading", extra=extra)
