"""Log lines."""

import contextvars
import io
import json
import logging
from collections.abc import Iterator

import pytest

from shared.serving.request_context import enter_request
from shared.serving.telemetry import LoadingLog, configure_logging


@pytest.fixture(autouse=True)
def root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def log_lines(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    configure_logging("vision", "info")
    return written


def test_a_line_is_an_object_with_the_extra_fields(log_lines: io.StringIO) -> None:
    def work() -> None:
        enter_request((("x-request-id", "abc"), ("traceparent", f"00-{'a' * 32}-{'b' * 16}-01")))
        logging.getLogger("any").info("encoded", extra={"tiles": 3, "where": "日本"})

    contextvars.copy_context().run(work)
    line = json.loads(log_lines.getvalue())
    assert (line["service"], line["level"], line["message"]) == ("vision", "INFO", "encoded")
    assert (line["tiles"], line["where"], line["request_id"]) == (3, "日本", "abc")
    assert line["trace_id"] == "a" * 32


def test_an_exception_is_in_the_line(log_lines: io.StringIO) -> None:
    try:
        raise ValueError("inner words")
    except ValueError:
        logging.getLogger("any").exception("failed")
    line = json.loads(log_lines.getvalue())
    assert "inner words" in line["exception"]
    assert log_lines.getvalue().count("\n") == 1


def test_loading_is_logged_in_steps_from_nothing_to_all(log_lines: io.StringIO) -> None:
    loading = LoadingLog("tower")
    for loaded in range(1001):
        loading(loaded, 1000)
    lines = [json.loads(line) for line in log_lines.getvalue().splitlines()]
    assert len(lines) == 21
    assert (lines[0]["loaded_bytes"], lines[-1]["loaded_bytes"], lines[-1]["total_bytes"]) == (0, 1000, 1000)
    assert {line["message"] for line in lines} == {"loading"}
