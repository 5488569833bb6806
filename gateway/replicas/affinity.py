"""The key that stays the same over all turns of a conversation, so that they meet the same warm replica. Pure."""

from collections.abc import Iterator, Sequence
from itertools import chain

from gateway.media.files import Medium, medium_count
from internvl.chat.v1 import chat_pb2
from internvl.common.v1 import visual_pb2
from shared.content import content_key


def conversation_key(request: chat_pb2.ChatRequest, tenant: str, media: Sequence[Medium]) -> bytes:
    """Key of the tenant, the system message and the user's first one: its text and its files, however they were sent.

    `media` are all of the request, in order.
    """
    return content_key("conversation", tenant, *chain.from_iterable(_opening(request, media))).encode()


def medium_key(medium: Medium) -> bytes:
    """Key of the file alone: however it is shown, its bytes are where its key leads."""
    return medium.id.encode()


def _opening(request: chat_pb2.ChatRequest, media: Sequence[Medium]) -> Iterator[tuple[str, str]]:
    rest = iter(media)
    for message in request.messages:
        yield "role", str(message.role)
        for part in message.parts:
            if part.HasField("text"):
                yield "text", part.text
            yield from (("media", next(rest).id) for _ in range(medium_count(part)))
        if message.role == visual_pb2.ROLE_USER:
            return
