"""Every error a caller can meet.

    InternvlError
    ├── InvalidRequest      ImageUnreadable ImageTooLarge VideoUnreadable VideoTooLarge
    │                       BadOption BadMessages UriNotAllowed MediaUnreachable PromptTooLong RequestTooLarge
    │                       GrammarInvalid
    ├── Unauthenticated     KeyMissing KeyUnknown
    ├── PermissionDenied    TenantSuspended
    ├── NotFound            MediaExpired EmbeddingNotFound
    ├── DataLoss            EmbeddingInvalid
    ├── ResourceExhausted   QueueFull RateLimited DecodeTimeout DecoderStopped
    ├── Unavailable         Draining BackendUnavailable StoreUnavailable ModelMismatch
    ├── DeadlineExceeded
    └── Internal

The class is the reason: `ImageUnreadable` travels as IMAGE_UNREADABLE. Messages are built here, never from a decoder's
or a library's own words, which may hold addresses or paths. `internvl.transport.status` turns these into
google.rpc.Status and back; this module knows no transport.
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Self


class InternvlError(Exception):
    """Base of all. `metadata` travels with the reason; `field` names the request field at fault, if one is."""

    retry_after_seconds: float | None = None
    field: str | None = None

    def __init__(self, message: str, *, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})

    def at(self, field: str | None) -> Self:
        """The same error, about the field as its next reader knows it."""
        error = copy.copy(self)
        error.field = field
        return error

    @classmethod
    def reason(cls) -> str:
        """The class name in capitals with underscores."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).upper()


class InvalidRequest(InternvlError):
    """The request can never succeed."""

    def __init__(self, message: str, *, field: str | None = None, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message, metadata=metadata)
        self.field = field


class ImageUnreadable(InvalidRequest):
    """Not a whole image in a format we accept."""


class ImageTooLarge(InvalidRequest):
    """More pixels, bytes or a longer side than the operator allows."""


class VideoUnreadable(InvalidRequest):
    """Not a video we can take frames from."""


class VideoTooLarge(InvalidRequest):
    """More bytes, frames or pixels than the operator allows."""


class BadOption(InvalidRequest):
    """An option outside its range."""


class BadMessages(InvalidRequest):
    """A conversation that cannot be answered, such as one that ends with the assistant."""


class GrammarInvalid(InvalidRequest):
    """A schema, regular expression or grammar that cannot be compiled, or takes more work than is allowed."""


class UriNotAllowed(InvalidRequest):
    """The operator does not allow fetching from there."""


class MediaUnreachable(InvalidRequest):
    """An address that may be fetched from and did not give the file."""


class PromptTooLong(InvalidRequest):
    """Prompt and reply do not fit the window."""

    def __init__(
        self, message: str, *, field: str | None = "messages", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, field=field, metadata=metadata)


class RequestTooLarge(InvalidRequest):
    """More bytes than its tenant may have in flight at all."""


class Unauthenticated(InternvlError):
    """The caller is not authenticated."""


class KeyMissing(Unauthenticated):
    """No API key came with the request, and there must be one."""


class KeyUnknown(Unauthenticated):
    """An API key that is unknown."""


class PermissionDenied(InternvlError):
    """The caller is authenticated but not allowed."""


class TenantSuspended(PermissionDenied):
    """The operator has suspended the tenant."""


class NotFound(InternvlError):
    """The request refers to something that is gone."""


class MediaExpired(NotFound):
    """A media id that is unknown or no longer kept: send the bytes again."""


class EmbeddingNotFound(NotFound):
    """Embedding keys that no store holds: encode again."""

    @classmethod
    def of(cls, keys: Sequence[str]) -> "EmbeddingNotFound":
        return cls(f"{len(keys)} embedding(s) are gone; encode them again", metadata={"keys": ",".join(keys)})

    @property
    def keys(self) -> list[str]:
        return [key for key in self.metadata.get("keys", "").split(",") if key]


class DataLoss(InternvlError):
    """Stored data failed its checks."""


class EmbeddingInvalid(DataLoss):
    """A stored embedding of the wrong shape, dtype, digest, or with values that are not finite."""


class ResourceExhausted(InternvlError):
    """Too much at once; the same request can succeed later."""

    def __init__(
        self, message: str, *, retry_after_seconds: float = 1.0, metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, metadata=metadata)
        self.retry_after_seconds = retry_after_seconds


class QueueFull(ResourceExhausted):
    """A bounded queue has no room."""


class RateLimited(ResourceExhausted):
    """The tenant has used up what it may have in a minute, or at a time."""


class DecodeTimeout(ResourceExhausted):
    """A image or video that was not decoded within the time a file may take."""


class DecoderStopped(ResourceExhausted):
    """The system ended the process that decoded this file, as it does when memory runs out."""


class Unavailable(InternvlError):
    """Not now, or not here; another replica may answer."""


class Draining(Unavailable):
    """The process is shutting down."""


class BackendUnavailable(Unavailable):
    """A service behind this one cannot be reached."""


class StoreUnavailable(Unavailable):
    """Redis cannot be reached or refuses."""


class ModelMismatch(Unavailable):
    """Vision and LLM services serve different checkpoints."""


class DeadlineExceeded(InternvlError):
    """The caller's deadline passed; all work for it has stopped."""


class Internal(InternvlError):
    """A bug. The message carries an error id and nothing else; the log has the rest."""

    @classmethod
    def with_id(cls, error_id: str) -> "Internal":
        return cls(f"internal error {error_id}", metadata={"error_id": error_id})


def error_class(reason: str) -> type[InternvlError] | None:
    """The class of a reason that came over the wire, or None if this version does not know it."""
    return next((error for error in _descendants(InternvlError) if error.reason() == reason), None)


def _descendants(parent: type[InternvlError]) -> Iterator[type[InternvlError]]:
    for child in parent.__subclasses__():
        yield child
        yield from _descendants(child)
