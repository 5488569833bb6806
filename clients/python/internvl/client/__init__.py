"""The Python client: messages in, events out.

    async with ChatClient("127.0.0.1:50050") as client:
        session = ChatSession(client)
        async for event in session.ask("How many circles are there?", Path("picture.png")):
            ...

messages     messages, images, videos and options of a request
events       Started, Delta and Finished of a reply
chat_client  one gateway's RPCs as methods
session      a conversation that keeps its history and sends every file once
resend       events of a reply that is asked for again, without those already delivered
sync_client  the same for code without an event loop
batch        a file of questions to a file of answers, resumable

Errors are those of `internvl.errors`.
"""

from internvl.client.chat_client import DEFAULT_ADDRESS, ChatClient, UploadProgress
from internvl.client.events import Delta, Event, Finished, Media, Started, TokenLogprob, Usage
from internvl.client.messages import CombinedImage, Image, Message, Part, Piece, Sampling, Video, Visual, user
from internvl.client.session import ChatSession, follow
from internvl.client.sync_client import SyncChatClient, SyncChatSession
from internvl.transport.tls import TlsFiles

__all__ = [
    "DEFAULT_ADDRESS",
    "ChatClient",
    "ChatSession",
    "CombinedImage",
    "Delta",
    "Event",
    "Finished",
    "Image",
    "Media",
    "Message",
    "Part",
    "Piece",
    "Sampling",
    "Started",
    "SyncChatClient",
    "SyncChatSession",
    "TlsFiles",
    "TokenLogprob",
    "UploadProgress",
    "Usage",
    "Video",
    "Visual",
    "follow",
    "user",
]
