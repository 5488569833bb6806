"""Checks of ToolOptions, which both the gateway and the LLM service make."""

import re

from internvl.common.v1 import sampling_pb2, tools_pb2
from internvl.errors import BadOption

MAX_TOOL_COUNT = 128
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MODES = frozenset(tools_pb2.ToolMode.values())


def check_tools(options: tools_pb2.ToolOptions, sampling: sampling_pb2.SamplingOptions) -> None:
    """Raises BadOption that names the field, `tools.tools[0].name` for instance. Schemas are not looked at."""
    if len(options.tools) > MAX_TOOL_COUNT:
        raise BadOption(f"{len(options.tools)} tools, at most {MAX_TOOL_COUNT} are taken", field="tools.tools")
    names = set()
    for index, tool in enumerate(options.tools):
        field = f"tools.tools[{index}].name"
        if not _NAME.fullmatch(tool.name):
            raise BadOption("a tool's name is 1 to 64 letters, digits, underscores and hyphens", field=field)
        if tool.name in names:
            raise BadOption(f"two tools are named {tool.name}", field=field)
        names.add(tool.name)
    _check_choice(options.choice, names)
    calls = bool(names) and options.choice.mode != tools_pb2.TOOL_MODE_NONE
    if calls and sampling.HasField("output"):
        raise BadOption("a reply that may call tools has no form of its own: tool_choice none", field="sampling.output")
    if (calls or sampling.HasField("output")) and (sampling.ignore_eos or sampling.min_tokens):
        field = "ignore_eos" if sampling.ignore_eos else "min_tokens"
        raise BadOption(f"{field} is not possible with tools or a form of the reply", field=f"sampling.{field}")


def _check_choice(choice: tools_pb2.ToolChoice, names: set[str]) -> None:
    if choice.HasField("name") and choice.name not in names:
        raise BadOption(f"there is no tool named {choice.name[:64]}", field="tools.choice.name")
    if choice.mode not in _MODES:
        raise BadOption("no such mode", field="tools.choice.mode")
    if choice.mode == tools_pb2.TOOL_MODE_REQUIRED and not names:
        raise BadOption("a call is required, and there are no tools", field="tools.choice.mode")
