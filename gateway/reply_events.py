"""Events of one reply as clients see them: tool calls get their ids, and regions are found in the text. Pure."""

import uuid
from collections.abc import Sequence

from gateway.grounding import Images, ImageSize, Regions
from gateway.media.files import medium_count
from gateway.translation import Encoded
from internvl.chat.v1 import chat_pb2
from internvl.common.v1 import tools_pb2
from internvl.llm.v1 import llm_pb2


class ReplyEvents:
    """Events of one reply, over however many calls it is made."""

    def __init__(self, request: chat_pb2.ChatRequest, encoded: Sequence[Encoded]) -> None:
        """`encoded`: the request's media, in order."""
        self._id = uuid.uuid4().hex
        self._encoded = encoded
        self._regions = Regions(_images(request, encoded))

    def started(self, model: str, warnings: Sequence[str]) -> chat_pb2.ChatResponse:
        """The first event."""
        media = [medium.public for medium in self._encoded]
        started = chat_pb2.Started(response_id=self._id, model=model, media=media, warnings=warnings)
        return chat_pb2.ChatResponse(started=started)

    def delta(self, event: llm_pb2.Delta) -> chat_pb2.ChatResponse | None:
        """An event in between, or None where there is nothing a client would see yet."""
        if not (event.text or event.logprobs or event.tool_calls):
            return None
        calls = [self._call(call) for call in event.tool_calls]
        regions = self._regions.add(event.text)
        delta = chat_pb2.Delta(text=event.text, logprobs=event.logprobs, tool_calls=calls, regions=regions)
        return chat_pb2.ChatResponse(delta=delta)

    def finished(self, event: llm_pb2.Finished, timing: chat_pb2.Timing) -> chat_pb2.ChatResponse:
        """The last event."""
        timing.queue_seconds = event.queue_seconds
        return chat_pb2.ChatResponse(finished=chat_pb2.Finished(reason=event.reason, usage=event.usage, timing=timing))

    def _call(self, call: tools_pb2.ToolCallDelta) -> tools_pb2.ToolCallDelta:
        """With an id where the call begins: it is the gateway's, so that a call which another replica
        resumes keeps it.
        """
        told = tools_pb2.ToolCallDelta()
        told.CopyFrom(call)
        if call.name:
            told.id = f"call_{self._id[:20]}{call.index}"
        return told


def _images(request: chat_pb2.ChatRequest, encoded: Sequence[Encoded]) -> Images:
    """A combined image counts once, and has no size: its files have."""
    rest = iter(encoded)
    sizes: list[ImageSize] = []
    last_message = range(0)
    for message in request.messages:
        first = len(sizes)
        for part in message.parts:
            shown = [next(rest) for _ in range(medium_count(part))]
            if part.HasField("image"):
                sizes.append(ImageSize(shown[0].width, shown[0].height))
            elif part.HasField("combined"):
                sizes.append(ImageSize(0, 0))
        if len(sizes) > first:
            last_message = range(first, len(sizes))
    return Images(sizes, last_message)
