"""What stays the same over the turns of a conversation, and what tells two apart."""

from gateway.media.files import media_of
from gateway.replicas.affinity import conversation_key
from gateway.request_limits import RequestLimits
from internvl.client.messages import Image, Message, Sampling, Visual, chat_request, user
from shared.content import content_digest, media_id

LIMITS = RequestLimits(message_count=9, part_count=9, media_count=9, inline_media_bytes=1 << 20)
BY_ID = Image(id=media_id("ann", content_digest(b"picture")))


def key(*messages: Message, tenant: str = "ann") -> bytes:
    request = chat_request(messages, Sampling(), Visual())
    return conversation_key(request, tenant, media_of(request, tenant, LIMITS))


def test_later_turns_have_the_key_of_the_first() -> None:
    system = Message("system", ("be brief",))
    first = key(system, user("what is this?", b"picture"))
    later = [system, user("what is this?", BY_ID), Message("assistant", ("a cat",)), user("and this?", b"other")]
    assert key(*later) == first


def test_other_conversations_have_other_keys() -> None:
    openings = [
        key(user("hello")),
        key(user("hello"), tenant="bob"),
        key(Message("system", ("hello",)), user("hello")),
        key(user("hello", "hello")),
        key(user("hellohello")),
        key(user("hello", b"picture")),
        key(user(b"picture", "hello")),
        key(user("hello", b"other")),
    ]
    assert len(set(openings)) == len(openings)
