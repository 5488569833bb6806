"""One JSON object a line, with the ids of the request it was written for (shared/serving/request_context.py)."""

import json
import logging
import sys
import time

from shared.serving.request_context import current_request

_OWN_HANDLERS = ("transformers",)
"""Libraries that write their own lines to standard error unless told otherwise; their errors are kept."""

_FIELDS_OF_EVERY_RECORD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


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
        if (request := current_request()) is not None:
            line.update(request.log_fields())
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
