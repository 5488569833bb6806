"""Spans over real OTLP: who is whose child, what failed, and nothing at all when it is off."""

import builtins
import time
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from shared.serving.request_context import current_request, enter_request, outgoing_metadata
from shared.serving.settings import ServiceSettings
from shared.serving.tracing import PhaseClock, record, span, tracing
from tests.support.collector import Collector

TRACE, PARENT = "a" * 32, "b" * 16


class LoopbackSettings(ServiceSettings):
    service: ClassVar[str] = "test"
    port: int = 0


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with Collector() as collector:
        yield collector


def enter(flags: str = "01") -> None:
    enter_request([("traceparent", f"00-{TRACE}-{PARENT}-{flags}")])


async def test_spans_are_children_of_what_they_are_in(collector: Collector) -> None:
    async with tracing(LoopbackSettings(otlp_endpoint=collector.endpoint)):
        enter()
        with span("outer", tiles=7):
            inside = dict(outgoing_metadata())["traceparent"]
            with span("inner"):
                pass
            now = time.time_ns()
            record("timed", now - 5_000_000, now)
        assert dict(outgoing_metadata())["traceparent"] == f"00-{TRACE}-{PARENT}-01"
    found = await collector.trace(TRACE, {"outer", "inner", "timed"})
    service, outer = found["outer"]
    assert service == "internvl-test"
    assert outer.parent_span_id.hex() == PARENT
    assert inside == f"00-{TRACE}-{outer.span_id.hex()}-01"
    assert {found[name][1].parent_span_id for name in ("inner", "timed")} == {outer.span_id}
    assert [(each.key, each.value.int_value) for each in outer.attributes] == [("tiles", 7)]
    timed = found["timed"][1]
    assert timed.end_time_unix_nano - timed.start_time_unix_nano == 5_000_000


async def test_a_failed_span_says_what_failed_and_no_more(collector: Collector) -> None:
    async with tracing(LoopbackSettings(otlp_endpoint=collector.endpoint)):
        enter()
        with pytest.raises(ValueError, match="secret"), span("failing"):
            raise ValueError("secret")
    _, failed = (await collector.trace(TRACE, {"failing"}))["failing"]
    assert (failed.status.code, failed.status.message) == (2, "ValueError")
    assert not failed.events


async def test_a_request_without_a_trace_begins_one(collector: Collector) -> None:
    async with tracing(LoopbackSettings(otlp_endpoint=collector.endpoint)):
        enter_request([])
        with span("root"):
            request = current_request()
            assert request is not None
            trace_id = request.trace_id
    _, root = (await collector.trace(trace_id, {"root"}))["root"]
    assert root.parent_span_id == b""


async def test_a_caller_who_does_not_want_a_trace_gets_none(collector: Collector) -> None:
    async with tracing(LoopbackSettings(otlp_endpoint=collector.endpoint)):
        enter("00")
        with span("unwanted"):
            assert dict(outgoing_metadata())["traceparent"].endswith("-00")
    assert not collector.spans
    async with tracing(LoopbackSettings(otlp_endpoint=collector.endpoint, trace_ratio=0.0)):
        enter_request([])
        with span("unwanted"):
            pass
    assert not collector.spans


async def test_phases_of_a_reply(collector: Collector) -> None:
    async with tracing(LoopbackSettings(otlp_endpoint=collector.endpoint)):
        enter()
        clock = PhaseClock()
        clock.started(queue_seconds=0.001)
        for _ in range(3):
            time.sleep(0.002)  # noqa: ASYNC251 - times are told, nothing waits
            clock.token()
        clock.record()
    found = await collector.trace(TRACE, {"queue", "prefill", "decode"})
    spans = [found[name][1] for name in ("queue", "prefill", "decode")]
    assert [each.start_time_unix_nano for each in spans[1:]] == [each.end_time_unix_nano for each in spans[:-1]]
    assert spans[0].end_time_unix_nano - spans[0].start_time_unix_nano == 1_000_000


async def test_off_it_does_nothing() -> None:
    enter()
    async with tracing(LoopbackSettings()):
        with span("nothing"):
            assert dict(outgoing_metadata())["traceparent"] == f"00-{TRACE}-{PARENT}-01"
            record("nothing", 0, 1)


async def test_without_opentelemetry_the_setting_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"internvl-serving\[traces\]"):
        await tracing(LoopbackSettings(otlp_endpoint="http://127.0.0.1:1")).__aenter__()
