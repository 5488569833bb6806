"""Events of our replies as objects of the OpenAI API: a whole completion, or its chunks. Pure."""

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

from internvl.chat.v1 import chat_pb2
from internvl.common.v1 import sampling_pb2, tools_pb2

Json = dict[str, Any]

_REASONS = {
    sampling_pb2.FINISH_REASON_STOP: "stop",
    sampling_pb2.FINISH_REASON_LENGTH: "length",
    sampling_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
}


class Completion:
    """The answer to one request: what all its chunks have in common, and what its choices came to."""

    def __init__(self, response_id: str, model: str, fingerprint: str, choice_count: int) -> None:
        self._common: Json = {
            "id": f"chatcmpl-{response_id}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": f"fp_{fingerprint[:12]}",
        }
        self._choices = [_Choice(index) for index in range(choice_count)]
        self._started = chat_pb2.Started()

    def take(self, index: int, event: chat_pb2.ChatResponse) -> Json:
        """Adds an event of choice `index`; the chunk that tells of it."""
        chunk = self._chunk([self._choices[index].take(event)])
        if event.HasField("started") and index == 0:
            self._started = event.started
            return chunk | self._warnings()
        return chunk

    def usage_chunk(self) -> Json:
        """The last one of a stream, where it was asked for."""
        return self._chunk([]) | {"usage": self._usage()}

    def whole(self) -> Json:
        """All of it, once every choice has finished."""
        choices = [choice.whole() for choice in self._choices]
        common = {"object": "chat.completion", **self._common, **self._warnings()}
        return common | {"choices": choices, "usage": self._usage()}

    def _chunk(self, choices: Sequence[Json]) -> Json:
        return {"object": "chat.completion.chunk", **self._common, "choices": list(choices)}

    def _warnings(self) -> Json:
        return {"warnings": list(self._started.warnings)} if self._started.warnings else {}

    def _usage(self) -> Json:
        """The prompt counts once: its choices share it."""
        all_ = [choice.usage for choice in self._choices]
        prompt = all_[0]
        completion_count = sum(usage.completion_token_count for usage in all_)
        return {
            "prompt_tokens": prompt.prompt_token_count,
            "completion_tokens": completion_count,
            "total_tokens": prompt.prompt_token_count + completion_count,
            "prompt_tokens_details": {
                "cached_tokens": prompt.cached_token_count,
                "visual_tokens": prompt.visual_token_count,
                "image_tokens": prompt.visual_token_count,
                "text_tokens": prompt.prompt_token_count - prompt.visual_token_count,
            },
            "position_increments": list(prompt.position_increments),
            "media": [
                {"id": medium.id, "source_count": medium.source_count, "read_count": medium.read_count}
                for medium in self._started.media
            ],
        }


class _Choice:
    """One reply."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._texts: list[str] = []
        self._calls: list[Json] = []
        self._regions: list[Json] = []
        self._logprobs: list[Json] | None = None
        self._finish_reason: str | None = None
        self.usage = sampling_pb2.Usage()

    def take(self, event: chat_pb2.ChatResponse) -> Json:
        match event.WhichOneof("event"):
            case "started":
                return self._delta({"role": "assistant", "content": "", "refusal": None})
            case "delta":
                return self._take_delta(event.delta)
            case _:
                assert event.HasField("finished")
                self._finish_reason = _REASONS[event.finished.reason]
                self.usage = event.finished.usage
                return self._delta({})

    def _take_delta(self, event: chat_pb2.Delta) -> Json:
        self._texts.append(event.text)
        entries = _logprobs(event.logprobs)
        if entries:
            self._logprobs = (self._logprobs or []) + entries
        calls = [_call_delta(call) for call in event.tool_calls]
        for call in event.tool_calls:
            self._take_call(call)
        regions = list(map(_region, event.regions))
        self._regions += regions
        delta: Json = {"content": event.text} if event.text or not calls else {}
        delta |= {"tool_calls": calls} if calls else {}
        delta |= {"regions": regions} if regions else {}
        return self._delta(delta, entries)

    def _take_call(self, call: tools_pb2.ToolCallDelta) -> None:
        if call.name:
            function = {"name": call.name, "arguments": ""}
            self._calls.append({"id": call.id, "type": "function", "function": function})
        self._calls[call.index]["function"]["arguments"] += call.arguments

    def whole(self) -> Json:
        text = "".join(self._texts)
        message: Json = {"role": "assistant", "content": text if text or not self._calls else None, "refusal": None}
        message |= {"tool_calls": self._calls} if self._calls else {}
        message |= {"regions": self._regions} if self._regions else {}
        return {
            "index": self._index,
            "message": message,
            "logprobs": None if self._logprobs is None else {"content": self._logprobs, "refusal": None},
            "finish_reason": self._finish_reason,
        }

    def _delta(self, delta: Json, logprobs: list[Json] | None = None) -> Json:
        return {
            "index": self._index,
            "delta": delta,
            "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
            "finish_reason": self._finish_reason,
        }


def server_sent(event: Json | str) -> bytes:
    """One event of a stream."""
    text = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return f"data: {text}\n\n".encode()


def _call_delta(call: tools_pb2.ToolCallDelta) -> Json:
    if call.name:
        function = {"name": call.name, "arguments": call.arguments}
        return {"index": call.index, "id": call.id, "type": "function", "function": function}
    return {"index": call.index, "function": {"arguments": call.arguments}}


def _region(region: chat_pb2.Region) -> Json:
    """Pixels and a point where they are known; boxes are [x1, y1, x2, y2]."""
    box, pixels = region.thousandths, region.pixels
    told: Json = {
        "phrase": region.phrase,
        "image_index": region.image_index if region.HasField("image_index") else None,
        "thousandths": [box.x1, box.y1, box.x2, box.y2],
    }
    if region.HasField("pixels"):
        told["pixels"] = [pixels.x1, pixels.y1, pixels.x2, pixels.y2]
        told["point"] = [region.point.x, region.point.y]
    return told


def _logprobs(entries: Iterable[sampling_pb2.TokenLogprob]) -> list[Json]:
    return [_logprob(entry) | {"top_logprobs": list(map(_logprob, entry.alternatives))} for entry in entries]


def _logprob(entry: sampling_pb2.TokenLogprob) -> Json:
    return {
        "token": entry.token.decode("utf-8", "replace"),
        "bytes": list(entry.token),
        "logprob": max(entry.logprob, _LEAST_LOGPROB),
    }


_LEAST_LOGPROB = -9999.0
"""OpenAI's number in place of minus infinity, which JSON has no word for."""
