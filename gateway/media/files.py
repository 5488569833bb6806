"""Media of a request, bytes or ids, under tenant-bound ids: step 1 of the data's path.

Knows no service: what is to be encoded, and what is the same as what. Two parts that show the same file in the same
way are one `Medium`, so it is encoded once.
"""

import asyncio
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from gateway.request_limits import RequestLimits
from internvl.chat.v1 import chat_pb2
from internvl.common.v1 import visual_pb2
from internvl.errors import (
    BadMessages,
    ImageTooLarge,
    ImageUnreadable,
    InternvlError,
    MediaExpired,
    VideoTooLarge,
    VideoUnreadable,
)
from shared.content import content_digest, media_id

_LARGE_BYTES = 256 << 10
"""Below this, hashing takes less time than handing it to a thread."""
_ID = re.compile(r"media_[0-9a-f]{48}")


class MediaKind(Enum):
    """Kind of a file; the value is the name of its part in a message."""

    IMAGE = "image"
    VIDEO = "video"


@dataclass(frozen=True)
class Frames:
    """Frames of a video to take; None = the service's default."""

    count: int | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclass(frozen=True)
class Medium:
    """A image or video and how it is shown. Equal media have equal embeddings."""

    kind: MediaKind
    id: str
    max_tile_count: int | None
    frames: Frames | None
    data: bytes | None = field(compare=False, repr=False)
    """The file, where the request brought it along."""
    field_path: str = field(compare=False)
    """Where in the request it stands, such as `messages[0].parts[1].image`."""


def media_of(request: chat_pb2.ChatRequest, tenant: str, limits: RequestLimits) -> list[Medium]:
    """All media in order. Raises InvalidRequest with the field at fault, MediaExpired for an id of no known form."""
    media = list(_media(request, tenant))
    if len(media) > limits.media_count:
        raise BadMessages(f"{len(media)} media, at most {limits.media_count} are allowed", field="messages")
    total = 0
    for medium in media:
        total += len(medium.data or b"")
        if total > limits.inline_media_bytes:
            raise too_large(medium.kind, limits.inline_media_bytes, f"{medium.field_path}.data")
    return media


async def read_media(request: chat_pb2.ChatRequest, tenant: str, limits: RequestLimits) -> list[Medium]:
    """`media_of`, in a thread where there is much to hash, so that other replies do not wait."""
    if request.ByteSize() < _LARGE_BYTES:
        return media_of(request, tenant, limits)
    return await asyncio.to_thread(media_of, request, tenant, limits)


def medium_count(part: chat_pb2.Part) -> int:
    """Media that a part of a message shows: each file of a combined image."""
    if part.HasField("combined"):
        return len(part.combined.images)
    return int(not part.HasField("text"))


def distinct(media: Iterable[Medium]) -> list[Medium]:
    """Each once, in order of appearance; where a medium came both as bytes and by id, the one with bytes."""
    found: dict[Medium, Medium] = {}
    for medium in media:
        known = found.setdefault(medium, medium)
        if known.data is None:
            found[medium] = medium
    return list(found.values())


def too_large(kind: MediaKind, max_bytes: int, field_path: str) -> InternvlError:
    """More bytes than allowed."""
    cls = ImageTooLarge if kind is MediaKind.IMAGE else VideoTooLarge
    return cls(f"more than {max_bytes} bytes", field=field_path)


def _media(request: chat_pb2.ChatRequest, tenant: str) -> Iterator[Medium]:
    for index, message in enumerate(request.messages):
        for place, part in enumerate(message.parts):
            path = f"messages[{index}].parts[{place}]"
            if part.HasField("image"):
                yield _medium(MediaKind.IMAGE, part.image, None, request.visual, tenant, f"{path}.image")
            elif part.HasField("combined"):
                own = part.combined.visual
                default = own if own.HasField("max_tile_count") else request.visual
                for number, image in enumerate(part.combined.images):
                    where = f"{path}.combined.images[{number}]"
                    yield _medium(MediaKind.IMAGE, image, None, default, tenant, where)
            elif part.HasField("video"):
                frames = _frames(part.video.frames)
                yield _medium(MediaKind.VIDEO, part.video, frames, request.visual, tenant, f"{path}.video")


def _medium(
    kind: MediaKind,
    source: chat_pb2.Image | chat_pb2.Video,
    frames: Frames | None,
    default: visual_pb2.VisualOptions,
    tenant: str,
    path: str,
) -> Medium:
    identifier, data = _source(kind, source, tenant, path)
    return Medium(kind, identifier, _max_tile_count(source.visual, default), frames, data, path)


def _source(
    kind: MediaKind, source: chat_pb2.Image | chat_pb2.Video, tenant: str, path: str
) -> tuple[str, bytes | None]:
    match source.WhichOneof("source"):
        case "data" if source.data:
            return media_id(tenant, content_digest(source.data)), source.data
        case "id":
            if not _ID.fullmatch(source.id):
                raise MediaExpired("not a media id", metadata={"media_id": source.id[:128]})
            return source.id, None
        case _:
            cls = ImageUnreadable if kind is MediaKind.IMAGE else VideoUnreadable
            raise cls("there are no bytes", field=path)


def _max_tile_count(own: visual_pb2.VisualOptions, default: visual_pb2.VisualOptions) -> int | None:
    for options in (own, default):
        if options.HasField("max_tile_count"):
            return options.max_tile_count
    return None


def _frames(options: visual_pb2.VideoOptions) -> Frames:
    return Frames(
        count=options.frame_count if options.HasField("frame_count") else None,
        start_seconds=options.start_seconds if options.HasField("start_seconds") else None,
        end_seconds=options.end_seconds if options.HasField("end_seconds") else None,
    )
