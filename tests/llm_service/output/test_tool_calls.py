"""Calls are found however the text is cut, and nothing of a reply is lost."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_service.output.tool_calls import CallPiece, Piece, ToolCallParser

CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "}\\"]{", "b": [1, {"c": 2}]}}\n</tool_call>'
TWO = f'Let me look. <\n\n{CALL}\n<tool_call>\n{{"name": "g", "arguments": {{}}}}\n</tool_call>\nDone.'


def parsed(*pieces: str) -> tuple[str, list[tuple[str, str]], ToolCallParser]:
    """Text, and each call's name and arguments."""
    parser = ToolCallParser()
    found: list[Piece] = [found for piece in pieces for found in parser.add(piece)] + parser.finish()
    calls: dict[int, list[str]] = {}
    for piece in found:
        if isinstance(piece, CallPiece):
            assert bool(piece.name) == (piece.index not in calls), "the name comes with the first piece"
            call = calls.setdefault(piece.index, [piece.name, ""])
            call[1] += piece.arguments
    return "".join(piece for piece in found if isinstance(piece, str)), [(n, a) for n, a in calls.values()], parser


def test_text_and_calls() -> None:
    text, calls, parser = parsed(TWO)
    assert text == "Let me look. <\nDone."
    assert calls == [("f", '{"a": "}\\"]{", "b": [1, {"c": 2}]}'), ("g", "{}")]
    assert (parser.call_count, parser.ended_count) == (2, 2)


@given(st.sets(st.integers(1, len(TWO) - 1)))
def test_however_it_is_cut(cuts: set[int]) -> None:
    places = [0, *sorted(cuts), len(TWO)]
    pieces = [TWO[first:last] for first, last in pairwise(places)]
    assert parsed(*pieces)[:2] == parsed(TWO)[:2]


def test_arguments_stream() -> None:
    parser = ToolCallParser()
    pieces = [parser.add(character) for character in CALL]
    arguments = [piece.arguments for found in pieces for piece in found if isinstance(piece, CallPiece)]
    assert len(arguments) > 20
    assert json.loads("".join(arguments)) == {"a": '}"]{', "b": [1, {"c": 2}]}


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>\nnot JSON\n</tool_call>",
        '<tool_call>\n{"arguments": {}}\n</tool_call>',
        "<tool_call>",
        '<tool_call>\n{"name": "f"',
        "a <tool",
        "<tool_call>[1]</tool_call> and more",
    ],
)
def test_what_is_no_call_is_text(text: str) -> None:
    assert parsed(text)[:2] == (text, [])


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ('{"arguments": {"a": 1}, "name": "f"}', {"a": 1}),
        ('{"name": "f", "arguments": "{\\"a\\": 1}"}', {"a": 1}),
        ('{"name": "f"}', {}),
        ('{"name": "f", "parameters": {"a": 1}}', {"a": 1}),
    ],
)
def test_other_ways_to_write_a_call(body: str, arguments: object) -> None:
    text, ((name, found),), _ = parsed(f"<tool_call>{body}</tool_call>")
    assert (text, name, json.loads(found)) == ("", "f", arguments)


def test_a_call_that_is_cut_off_has_begun() -> None:
    text, calls, parser = parsed('<tool_call>\n{"name": "f", "arguments": {"a": 1')
    assert (text, calls, parser.call_count, parser.ended_count) == ("", [("f", '{"a": 1')], 1, 0)
