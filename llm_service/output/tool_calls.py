"""Tool calls in the text of a reply, parsed as they stream. Pure.

    text <tool_call>\\n{"name": "f", "arguments": {"a": 1}}\\n</tool_call> text
                                 name ^         arguments, piece by piece

What looks like a call and is none is text like any other, its tags included: nothing of a reply is lost. The parser is
a function of the text alone, however it is cut: a reply that is resumed elsewhere has the same calls.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from llm_service.output.tools import CALL_BEGIN, CALL_END

_HEADER = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')


@dataclass(frozen=True)
class CallPiece:
    """More of a call; `name` with its first piece only."""

    index: int
    name: str
    arguments: str


Piece = str | CallPiece


class ToolCallParser:
    """Text in pieces to text and calls."""

    def __init__(self) -> None:
        self._held = ""
        """Text that is not certain yet: the beginning of a tag, white space before it, a call without arguments."""
        self._in_call = False
        self._arguments: _ObjectEnd | None = None
        """Inside the arguments of a call."""
        self.call_count = 0
        """Calls that have begun."""
        self.ended_count = 0
        """Calls that have ended."""

    def add(self, text: str) -> list[Piece]:
        """The part that has become certain."""
        self._held += text
        return list(self._certain(is_last=False))

    def finish(self) -> list[Piece]:
        """The rest, when the reply has ended."""
        return list(self._certain(is_last=True))

    def _certain(self, *, is_last: bool) -> Iterator[Piece]:
        while True:
            before = (self._held, self._in_call, self._arguments)
            if self._arguments is not None:
                yield from self._take_arguments(self._arguments)
            elif self._in_call:
                yield from self._take_call(is_last=is_last)
            else:
                yield from self._take_text(is_last=is_last)
            if (self._held, self._in_call, self._arguments) == before:
                return

    def _take_text(self, *, is_last: bool) -> Iterator[Piece]:
        """Text up to the next call, without the white space between the two."""
        text, tag, rest = self._held.partition(CALL_BEGIN)
        if tag:
            self._held, self._in_call = rest, True
            text = text.rstrip()
        elif is_last:
            self._held = ""
        else:
            certain = len(text) - _tag_beginning(text)
            certain = len(text[:certain].rstrip())
            text, self._held = text[:certain], text[certain:]
        if text and (text.strip() or not self.call_count):
            yield text

    def _take_call(self, *, is_last: bool) -> Iterator[Piece]:
        header = _HEADER.match(self._held)
        if header:
            self._held = self._held[header.end() :]
            self._arguments = _ObjectEnd()
            yield self._begun(json.loads(header[1]), "")
            return
        body, tag, rest = self._held.partition(CALL_END)
        if tag or is_last:
            self._held, self._in_call = rest, False
            yield from self._whole(body, tag)

    def _whole(self, body: str, tag: str) -> Iterator[Piece]:
        """A call that is not written as it should be, or is none."""
        call = _read_call(body) if tag else None
        if call is None:
            yield CALL_BEGIN + body + tag
            return
        yield self._begun(*call)
        self.ended_count += 1

    def _begun(self, name: str, arguments: str) -> CallPiece:
        self.call_count += 1
        return CallPiece(self.call_count - 1, name, arguments)

    def _take_arguments(self, end: "_ObjectEnd") -> Iterator[Piece]:
        piece = self._held[: end.find(self._held)]
        self._held = self._held[len(piece) :]
        if piece:
            yield CallPiece(self.call_count - 1, "", piece)
        if end.is_found:
            _, tag, rest = self._held.partition(CALL_END)
            if tag:
                self._held, self._in_call, self._arguments = rest, False, None
                self.ended_count += 1


class _ObjectEnd:
    """Finds where a JSON object that comes in pieces ends."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._is_escaped = False
        self.is_found = False

    def find(self, piece: str) -> int:
        """How many characters of the piece belong to the object."""
        if self.is_found:
            return 0
        for place, character in enumerate(piece):
            if self._in_string:
                self._in_string = self._is_escaped or character != '"'
                self._is_escaped = character == "\\" and not self._is_escaped
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.is_found = True
                    return place + 1
        return len(piece)


def _read_call(body: str) -> tuple[str, str] | None:
    """Name and arguments of a call as JSON, in whatever order; arguments may be JSON in a string."""
    try:
        call = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments", call.get("parameters", {}))
    if isinstance(arguments, str):
        return call["name"], arguments or "{}"
    return call["name"], json.dumps(arguments, ensure_ascii=False)


def _tag_beginning(text: str) -> int:
    """Length of the longest end of the text that the tag begins with."""
    lengths = range(min(len(CALL_BEGIN) - 1, len(text)), 0, -1)
    return next((length for length in lengths if text.endswith(CALL_BEGIN[:length])), 0)
