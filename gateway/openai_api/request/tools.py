"""Tools and calls in OpenAI's form, and our own. Pure."""

import json
import re

from gateway.openai_api.body import ChatBody, NamedTool
from gateway.openai_api.request.message import ToolCall
from internvl.common.v1 import tools_pb2

_MODES = {
    "none": tools_pb2.TOOL_MODE_NONE,
    "auto": tools_pb2.TOOL_MODE_AUTO,
    "required": tools_pb2.TOOL_MODE_REQUIRED,
}
_PLACE = re.compile(r"tools(\[\d+\])\.")


def tool_options(body: ChatBody) -> tools_pb2.ToolOptions | None:
    """None: the reply calls nothing."""
    if not body.tools and body.tool_choice in (None, "none", "auto"):
        return None
    return tools_pb2.ToolOptions(
        tools=[
            tools_pb2.Tool(
                name=tool.function.name,
                description=tool.function.description or "",
                parameters=json.dumps(tool.function.parameters) if tool.function.parameters else "",
                strict=bool(tool.function.strict),
            )
            for tool in body.tools or []
        ],
        choice=_choice(body),
        parallel=body.parallel_tool_calls,
    )


def tool_call(call: ToolCall) -> tools_pb2.ToolCall:
    """A call of the history."""
    return tools_pb2.ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)


def tool_field(field: str) -> str:
    """Our path in the client's words: tools[0].name -> tools[0].function.name."""
    if field.startswith("choice"):
        return "tool_choice"
    return _PLACE.sub(r"tools\1.function.", field)


def _choice(body: ChatBody) -> tools_pb2.ToolChoice | None:
    match body.tool_choice:
        case None:
            return None
        case NamedTool(function=function):
            return tools_pb2.ToolChoice(name=function.name)
        case mode:
            return tools_pb2.ToolChoice(mode=_MODES[mode])
