"""Which ids are taken over, and that nothing else is."""

import contextvars

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.serving.request_context import RequestContext, current_request, enter_request, outgoing_metadata

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def entered(*metadata: tuple[str, str | bytes]) -> dict[str, str]:
    """What a request with this metadata passes on; leaves no trace in this context."""

    def enter() -> dict[str, str]:
        assert enter_request(metadata) == current_request()
        return dict(outgoing_metadata())

    return contextvars.copy_context().run(enter)


def test_the_callers_ids_are_passed_on() -> None:
    sent = {"x-request-id": "abc", "traceparent": PARENT, "tracestate": "a=1,b=2"}
    assert entered(*sent.items(), ("other", "x"), ("x-bin", b"x")) == sent


def test_the_trace_id_is_the_traces() -> None:
    context = RequestContext.from_metadata([("x-request-id", "abc"), ("traceparent", PARENT)])
    assert context.trace_id == TRACE
    assert context.log_fields() == {"request_id": "abc", "trace_id": TRACE}
    assert RequestContext("abc").log_fields() == {"request_id": "abc"}


@pytest.mark.parametrize("offered", ["", "x" * 129, "a\nb", "a b", "é"])
def test_an_id_that_cannot_be_used_is_replaced(offered: str) -> None:
    (request_id,) = entered(("x-request-id", offered)).values()
    assert len(request_id) == 32
    assert request_id != offered


def test_requests_without_an_id_get_different_ones() -> None:
    assert entered() != entered()


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "00-1-2-01",
        PARENT.upper(),
        PARENT + "-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-0",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_a_malformed_trace_is_dropped_with_its_state(parent: str) -> None:
    found = entered(("traceparent", parent), ("tracestate", "a=1"))
    assert set(found) == {"x-request-id"} or parent.strip() == PARENT


def test_later_versions_may_say_more() -> None:
    parent = f"01-{TRACE}-{SPAN}-01-what-else"
    assert entered(("traceparent", parent))["traceparent"] == parent


def test_two_traces_are_none_and_two_states_are_one() -> None:
    assert "traceparent" not in entered(("traceparent", PARENT), ("traceparent", PARENT))
    found = entered(("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2"))
    assert found["tracestate"] == "a=1,b=2"
    assert "tracestate" not in entered(("traceparent", PARENT), ("tracestate", "a" * 513))


def test_outside_a_request_nothing_is_passed_on() -> None:
    assert contextvars.Context().run(outgoing_metadata) == ()


@given(st.lists(st.tuples(st.sampled_from(["x-request-id", "traceparent", "tracestate"]), st.text() | st.binary())))
def test_whatever_comes_what_goes_on_is_well_formed(metadata: list[tuple[str, str | bytes]]) -> None:
    context = RequestContext.from_metadata(metadata)
    passed_on = dict(context.metadata())
    assert passed_on["x-request-id"]
    assert all(value.isascii() and value.isprintable() for value in passed_on.values())
    assert RequestContext.from_metadata(passed_on.items()) == context
