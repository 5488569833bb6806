"""Our errors as google.rpc.Status, and back.

A status carries one ErrorInfo (domain `internvl`), a BadRequest where a field is at fault, a RetryInfo on overload.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from internvl import errors

DOMAIN = "internvl"
DETAILS_KEY = "grpc-status-details-bin"

_CODES: tuple[tuple[type[errors.InternvlError], grpc.StatusCode], ...] = (
    (errors.InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (errors.PermissionDenied, grpc.StatusCode.PERMISSION_DENIED),
    (errors.NotFound, grpc.StatusCode.NOT_FOUND),
    (errors.DataLoss, grpc.StatusCode.DATA_LOSS),
    (errors.ResourceExhausted, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.Unavailable, grpc.StatusCode.UNAVAILABLE),
    (errors.DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED),
    (errors.Internal, grpc.StatusCode.INTERNAL),
)


def status_code(error: errors.InternvlError) -> grpc.StatusCode:
    """The status code of an error's branch of the tree."""
    return next(code for branch, code in _CODES if isinstance(error, branch))


def to_status(error: errors.InternvlError) -> status_pb2.Status:
    """The status that carries `error` whole."""
    details: list[any_pb2.Any] = [
        _pack(error_details_pb2.ErrorInfo(reason=error.reason(), domain=DOMAIN, metadata=error.metadata))
    ]
    if error.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.message)
        details.append(_pack(error_details_pb2.BadRequest(field_violations=[violation])))
    if error.retry_after_seconds is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after_seconds * 1e9))
        details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(code=status_code(error).value[0], message=error.message, details=details)


def from_call_error(error: grpc.aio.AioRpcError) -> errors.InternvlError:
    """The error a peer raised. A status without our ErrorInfo (a dead peer, a proxy) is judged by its code."""
    metadata = error.trailing_metadata() or ()
    for key, value in metadata:
        if key == DETAILS_KEY and isinstance(value, bytes):
            restored = _from_status(status_pb2.Status.FromString(value))
            if restored is not None:
                return restored
    message = error.details() or error.code().name
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.DeadlineExceeded("the deadline passed")
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return errors.BackendUnavailable(message)
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return errors.ResourceExhausted(message)
    return errors.Internal(message)


@contextmanager
def translated() -> Iterator[None]:
    """Around a call: its errors become ours.

    gRPC raises CancelledError also for a call that was cancelled elsewhere, by the peer or by who watches over it; that
    is a peer that is gone.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_call_error(error) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise errors.BackendUnavailable("the service ended the call") from error


def _from_status(status: status_pb2.Status) -> errors.InternvlError | None:
    info, bad_request, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    for detail in status.details:
        for message in (info, bad_request, retry):
            if detail.type_url.endswith(f"/{message.DESCRIPTOR.full_name}"):
                detail.Unpack(message)
    cls = errors.error_class(info.reason) if info.domain == DOMAIN else None
    if cls is None:
        return None
    restored = cls(status.message, metadata=dict(info.metadata))
    if bad_request.field_violations:
        restored.field = bad_request.field_violations[0].field
    if retry.HasField("retry_delay"):
        restored.retry_after_seconds = retry.retry_delay.ToNanoseconds() / 1e9
    return restored


def _pack(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
