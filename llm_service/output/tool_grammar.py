"""Replies that are calls, or may hold some, as grammars. Pure.

required   one call or more, and nothing else; of one tool where it is named
auto       text and calls, where a tool is strict: text is free, a call is held to its tool's schema
"""

import json
from collections.abc import Callable, Sequence

from llm_service.output.formats import WHITE_SPACE, Form, Json, literal
from llm_service.output.tools import CALL_BEGIN, CALL_END, Tool, ToolMode, Tools
from llm_service.prompt import GROUNDING_TAGS

_NO_CALL = rf"/(.|\n)+/ & ~/(.|\n)*{CALL_BEGIN}(.|\n)*/"


def tool_form(tools: Tools, is_token: Callable[[str], bool]) -> Form | None:
    """Grammar that the choice demands of a reply, if any. `is_token`: whether the tokenizer has a tag as one token."""
    if tools.choice is ToolMode.NONE or not tools.tools:
        return None
    if isinstance(tools.choice, str):
        named = [tool for tool in tools.tools if tool.name == tools.choice]
        return _form(named, "call", is_token, hold_all=True)
    calls = r'call ("\n" call)*' if tools.is_parallel else "call"
    if tools.choice is ToolMode.REQUIRED:
        return _form(tools.tools, calls, is_token, hold_all=True)
    if not any(tool.strict for tool in tools.tools):
        return None
    start = _text_and_calls(tools, is_token) if is_token(CALL_BEGIN) else _written_calls(tools)
    return _form(tools.tools, start, is_token, hold_all=False)


def _text_and_calls(tools: Tools, is_token: Callable[[str], bool]) -> str:
    """Text may hold the tags of regions: where they are tokens, a grammar names them. No text follows text: two of them
    could be the beginning of a call.
    """
    tags = [tag for tag in GROUNDING_TAGS if is_token(tag)]
    text = f"TEXT? (({' | '.join(tags)}) TEXT?)*" if tags else "TEXT?"
    return f"{text} (call {text})*" if tools.is_parallel else f"{text} (call)?"


def _written_calls(tools: Tools) -> str:
    """Where a call begins with text like any other: text up to there is taken as soon as it ends so."""
    return "(before call)* TEXT?" if tools.is_parallel else "before call | TEXT?"


def _form(tools: Sequence[Tool], start: str, is_token: Callable[[str], bool], *, hold_all: bool) -> Form:
    begin, end = (tag if is_token(tag) else literal(tag) for tag in (CALL_BEGIN, CALL_END))
    lines = [f"start: {start}"]
    if "TEXT" in start:
        lines.append(f"TEXT: {_NO_CALL}")
    if "before" in start:
        lines.append(rf"before[lazy]: /(.|\n)*{CALL_BEGIN}/")
        begin = ""
    lines.append(f"call: {' | '.join(f'call_{index}' for index in range(len(tools)))}")
    schemas = []
    for index, tool in enumerate(tools):
        schema = _schema(tool, held=hold_all or tool.strict)
        schemas.append((f"{tool.field}.parameters", schema))
        header = literal(f'\n{{"name": {json.dumps(tool.name)}, "arguments": ')
        lines.append(f'call_{index}: {begin} {header} arguments_{index} "}}\\n" {end}')
        lines.append(f"arguments_{index}: %json {json.dumps(schema | {'x-guidance': WHITE_SPACE})}")
    return Form("\n".join(lines), "tools", tuple(schemas))


def _schema(tool: Tool, *, held: bool) -> Json:
    """Without parameters a tool has no arguments; one that is not held to its schema has an object."""
    nothing = {"type": "object", "properties": {}, "additionalProperties": False}
    schema = (tool.parameters or nothing) if held else {}
    return {"type": "object", **schema}
