"""Token ids to what a client reads: text, and tool calls where the request has tools."""

from collections.abc import Sequence
from dataclasses import dataclass

from llm_service.detokenizer import Detokenizer
from llm_service.output.tool_calls import CallPiece, Piece, ToolCallParser
from llm_service.output.tools import Tools


@dataclass(frozen=True)
class ReplyPiece:
    """Newly certain part of a reply: text, then calls."""

    text: str
    calls: Sequence[CallPiece] = ()


class ReplyText:
    """One reply. Feed tokens with `add`; `finish` gives what was held back."""

    def __init__(self, detokenizer: Detokenizer, tools: Tools) -> None:
        self._detokenizer = detokenizer
        self._calls = ToolCallParser() if tools.offered else None
        self._is_parallel = tools.is_parallel

    @property
    def has_ended(self) -> bool:
        """Whether a stop string was met, or the only call there may be has ended."""
        has_called = not self._is_parallel and self._calls is not None and self._calls.ended_count > 0
        return self._detokenizer.is_stopped or has_called

    @property
    def has_calls(self) -> bool:
        return self._calls is not None and self._calls.call_count > 0

    def add(self, token_id: int) -> ReplyPiece:
        """The part that has become certain with one more token."""
        text = self._detokenizer.add(token_id)
        return ReplyPiece(text) if self._calls is None else _piece(self._calls.add(text))

    def finish(self) -> ReplyPiece:
        """The rest that was held back and belongs to the reply."""
        text = self._detokenizer.finish()
        return ReplyPiece(text) if self._calls is None else _piece([*self._calls.add(text), *self._calls.finish()])


def _piece(pieces: Sequence[Piece]) -> ReplyPiece:
    """Text between two calls that end with one token is rare, and told before them."""
    text = "".join(piece for piece in pieces if isinstance(piece, str))
    return ReplyPiece(text, [piece for piece in pieces if not isinstance(piece, str)])
