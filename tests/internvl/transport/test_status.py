"""Every error of ours survives the way over the wire, whole."""

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from internvl import errors
from internvl.transport.status import DETAILS_KEY, from_call_error, status_code, to_status


def leaves(parent: type[errors.InternvlError] = errors.InternvlError) -> list[type[errors.InternvlError]]:
    children = parent.__subclasses__()
    return [parent] if not children else [leaf for child in children for leaf in leaves(child)]


def call_error(code: grpc.StatusCode, status: status_pb2.Status | None = None) -> grpc.aio.AioRpcError:
    details = ((DETAILS_KEY, status.SerializeToString()),) if status is not None else ()
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*details), "details")


@pytest.mark.parametrize("cls", leaves(), ids=lambda cls: cls.__name__)
def test_round_trip(cls: type[errors.InternvlError]) -> None:
    error = cls("what happened", metadata={"key": "value"})
    error.field = "messages[0].role" if isinstance(error, errors.InvalidRequest) else None
    restored = from_call_error(call_error(status_code(error), to_status(error)))
    assert type(restored) is cls
    assert (restored.message, restored.metadata, restored.field, restored.retry_after_seconds) == (
        "what happened",
        {"key": "value"},
        error.field,
        error.retry_after_seconds,
    )


def test_what_a_status_carries() -> None:
    status = to_status(errors.QueueFull("full", retry_after_seconds=2.5))
    assert status.code == code_pb2.RESOURCE_EXHAUSTED
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert (info.reason, info.domain) == ("QUEUE_FULL", "internvl")
    assert retry.retry_delay.ToTimedelta().total_seconds() == 2.5


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.BackendUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.ResourceExhausted),
        (grpc.StatusCode.UNKNOWN, errors.Internal),
    ],
)
def test_a_status_that_is_not_ours_is_judged_by_its_code(
    code: grpc.StatusCode, wanted: type[errors.InternvlError]
) -> None:
    assert type(from_call_error(call_error(code))) is wanted


def test_a_reason_of_a_newer_version_is_judged_by_its_code() -> None:
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason="FROM_THE_FUTURE", domain="internvl"))
    status = status_pb2.Status(code=code_pb2.UNAVAILABLE, details=[info])
    assert type(from_call_error(call_error(grpc.StatusCode.UNAVAILABLE, status))) is errors.BackendUnavailable


def test_keys_of_lost_embeddings_travel() -> None:
    error = errors.EmbeddingNotFound.of(["a", "b"])
    restored = from_call_error(call_error(status_code(error), to_status(error)))
    assert isinstance(restored, errors.EmbeddingNotFound)
    assert restored.keys == ["a", "b"]
