"""Errors as HTTP statuses and objects of the OpenAI API. Pure."""

import math
from dataclasses import dataclass, field
from typing import Any

from internvl import errors

_KINDS: tuple[tuple[type[errors.InternvlError], int, str], ...] = (
    (errors.InvalidRequest, 400, "invalid_request_error"),
    (errors.Unauthenticated, 401, "authentication_error"),
    (errors.PermissionDenied, 403, "permission_error"),
    (errors.NotFound, 404, "not_found_error"),
    (errors.RateLimited, 429, "rate_limit_error"),
    (errors.ResourceExhausted, 429, "overloaded_error"),
    (errors.Unavailable, 503, "unavailable_error"),
    (errors.DeadlineExceeded, 504, "timeout_error"),
    (errors.InternvlError, 500, "server_error"),
)


class HttpRefusal(Exception):
    """A fault that only HTTP can have: a path, a method, a length, a model's name."""

    def __init__(self, status: int, code: str, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param


@dataclass(frozen=True)
class Failure:
    """An answer that tells what went wrong."""

    status: int
    code: str
    """Why: the reason that gRPC clients get, in small letters."""
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, error: errors.InternvlError | HttpRefusal) -> "Failure":
        """The error's field must be in the client's words by now."""
        if isinstance(error, HttpRefusal):
            return cls._made(error.status, error.code, error.message, "invalid_request_error", error.param)
        status, kind = next((status, kind) for branch, status, kind in _KINDS if isinstance(error, branch))
        failure = cls._made(status, error.reason().lower(), error.message, kind, error.field)
        if "error_id" in error.metadata:
            failure.body["error"]["error_id"] = error.metadata["error_id"]
        if error.retry_after_seconds is not None:
            failure.headers["retry-after"] = str(max(1, math.ceil(error.retry_after_seconds)))
        if isinstance(error, errors.Unauthenticated):
            failure.headers["www-authenticate"] = "Bearer"
        return failure

    @classmethod
    def _made(cls, status: int, code: str, message: str, kind: str, param: str | None) -> "Failure":
        if param is not None and param not in message:  # several clients show the message alone
            message = f"{param}: {message}"
        return cls(status, code, {"error": {"message": message, "type": kind, "param": param, "code": code}})
