"""The Python client: messages in, events out.

    async with ChatClient("127.0.0.1:50050") as client:
        session = ChatSession(client)
        async for event in session.ask("How many circles are there?", Path("image.png")):
            ...

messages     messages, images, videos and options of a request
events       Started, Delta and Finished of a reply
chat_client  one gateway's RPCs as methods
output       the form that a reply must have
tools        functions that a reply may call, and its calls
session      a conversation that keeps its history and sends every file once
resend       events of a reply that is asked for again, without those already delivered
sync_client  the same for code without an event loop
batch        a file of questions to a file of answers, resumable

Errors are those of `internvl.errors`.
"""

from internvl.client.chat_client import DEFAULT_ADDRESS, ChatClient, UploadProgress
from internvl.client.events import Delta, Event, Finished, Media, Region, Started, TokenLogprob, Usage
from internvl.client.messages import (
    CombinedImage,
    Image,
    Message,
    Part,
    Piece,
    Sampling,
    Video,
    Visual,
    tool_result,
    user,
)
from internvl.client.output import Choice, JsonObject, JsonSchema, Lark, Regex
from internvl.client.session import ChatSession, follow
from internvl.client.sync_client import SyncChatClient, SyncChatSession
from internvl.client.tools import Tool, ToolCall, ToolCallDelta, Tools
from internvl.transport.channel import Keepalive
from internvl.transport.tls import TlsFiles

__all__ = [
    "DEFAULT_ADDRESS",
    "ChatClient",
    "ChatSession",
    "Choice",
    "CombinedImage",
    "Delta",
    "Event",
    "Finished",
    "Image",
    "JsonObject",
    "JsonSchema",
    "Keepalive",
    "Lark",
    "Media",
    "Message",
    "Part",
    "Piece",
    "Regex",
    "Region",
    "Sampling",
    "Started",
    "SyncChatClient",
    "SyncChatSession",
    "TlsFiles",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "Tools",
    "UploadProgress",
    "Usage",
    "Video",
    "Visual",
    "follow",
    "tool_result",
    "user",
]
