"""Functions that a reply may call, and the calls of replies."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from internvl.common.v1 import tools_pb2

ToolMode = Literal["auto", "none", "required"]

_MODES: dict[str, tools_pb2.ToolMode.ValueType] = {
    "auto": tools_pb2.TOOL_MODE_AUTO,
    "none": tools_pb2.TOOL_MODE_NONE,
    "required": tools_pb2.TOOL_MODE_REQUIRED,
}


@dataclass(frozen=True)
class Tool:
    """A function."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = None
    """JSON Schema of its arguments, an object; None: no arguments."""
    strict: bool = False
    """Whether arguments are held to the schema where calls are the model's choice."""

    def to_pb(self) -> tools_pb2.Tool:
        parameters = json.dumps(self.parameters) if self.parameters else ""
        return tools_pb2.Tool(name=self.name, description=self.description, parameters=parameters, strict=self.strict)


@dataclass(frozen=True)
class Tools:
    """The tools of a request."""

    tools: tuple[Tool, ...]
    choice: ToolMode | Tool = "auto"
    """Policy of tool calls, or the tool that must be called."""
    parallel: bool = True
    """Whether a reply may hold several calls."""

    def to_pb(self) -> tools_pb2.ToolOptions:
        choice = tools_pb2.ToolChoice()
        if isinstance(self.choice, Tool):
            choice.name = self.choice.name
        else:
            choice.mode = _MODES[self.choice]
        tools = [tool.to_pb() for tool in self.tools]
        return tools_pb2.ToolOptions(tools=tools, choice=choice, parallel=self.parallel)


@dataclass(frozen=True)
class ToolCall:
    """A call that a reply made. `arguments` is JSON text: whole where the reply did not end at max_tokens."""

    id: str
    name: str
    arguments: str

    def to_pb(self) -> tools_pb2.ToolCall:
        return tools_pb2.ToolCall(id=self.id, name=self.name, arguments=self.arguments)


@dataclass(frozen=True)
class ToolCallDelta:
    """More of a call; `id` and `name` with its first piece only."""

    index: int
    id: str
    name: str
    arguments: str

    @classmethod
    def from_pb(cls, delta: tools_pb2.ToolCallDelta) -> "ToolCallDelta":
        return cls(delta.index, delta.id, delta.name, delta.arguments)


class ToolCalls:
    """The calls of a reply, put together from their pieces."""

    def __init__(self) -> None:
        self._calls: list[ToolCall] = []

    def add(self, delta: ToolCallDelta) -> None:
        """Pieces come in order."""
        if delta.index == len(self._calls):
            self._calls.append(ToolCall(delta.id, delta.name, ""))
        call = self._calls[delta.index]
        self._calls[delta.index] = ToolCall(call.id, call.name, call.arguments + delta.arguments)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        return tuple(self._calls)
