"""Functions that a reply may call, and the text that tells the model of them. Pure.

The words are those of Qwen2.5's own chat template, on which InternVL3's language model was trained:

    system   ...\\n\\n# Tools\\n\\n ... <tools>\\n{signature}\\n ... </tools> ...
    assistant  text\\n<tool_call>\\n{"name": "f", "arguments": {...}}\\n</tool_call>
    user     <tool_response>\\nresult\\n</tool_response>
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

CALL_BEGIN = "<tool_call>"
CALL_END = "</tool_call>"
_BEFORE = (
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_AFTER = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    f"{CALL_BEGIN}{CALL_END} XML tags:\n{CALL_BEGIN}\n"
    f'{{"name": <function-name>, "arguments": <args-json-object>}}\n{CALL_END}'
)


class ToolMode(Enum):
    """Policy of tool calls."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True)
class Tool:
    """A function."""

    name: str
    description: str
    parameters: dict[str, Any]
    """JSON Schema of its arguments; empty: none."""
    strict: bool
    field: str
    """Where in the request it stands."""


@dataclass(frozen=True)
class ToolCall:
    """A call in the history. `arguments` is JSON text."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Tools:
    """The tools of one request."""

    tools: Sequence[Tool] = ()
    choice: ToolMode | str = ToolMode.AUTO
    """A mode, or the name of the tool that is to be called."""
    is_parallel: bool = True

    @property
    def offered(self) -> Sequence[Tool]:
        """Those that the model hears of."""
        return () if self.choice is ToolMode.NONE else self.tools


def tools_section(tools: Iterable[Tool]) -> str:
    """End of the system message."""
    return _BEFORE + "".join(f"\n{_json(_signature(tool))}" for tool in tools) + _AFTER


def calls_text(calls: Iterable[ToolCall]) -> str:
    """Calls of a message, each after a line break; arguments that are JSON as the template writes them."""
    return "".join(
        f'\n{CALL_BEGIN}\n{{"name": {_json(call.name)}, "arguments": {_spaced(call.arguments)}}}\n{CALL_END}'
        for call in calls
    )


def response_text(result: str) -> str:
    """The result of a call, after a line break."""
    return f"\n<tool_response>\n{result}\n</tool_response>"


def _signature(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters:
        function["parameters"] = tool.parameters
    return {"type": "function", "function": function}


def _spaced(arguments: str) -> str:
    try:
        return _json(json.loads(arguments))
    except ValueError:
        return arguments


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
