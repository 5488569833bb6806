"""Forms and tools of a request, from protobuf. What is checked by `shared` is not checked again."""

from internvl.common.v1 import output_pb2, tools_pb2
from internvl.errors import GrammarInvalid
from llm_service.output import formats
from llm_service.output.formats import Form, parsed_schema
from llm_service.output.tools import Tool, ToolMode, Tools

_MODES = {
    tools_pb2.TOOL_MODE_UNSPECIFIED: ToolMode.AUTO,
    tools_pb2.TOOL_MODE_AUTO: ToolMode.AUTO,
    tools_pb2.TOOL_MODE_NONE: ToolMode.NONE,
    tools_pb2.TOOL_MODE_REQUIRED: ToolMode.REQUIRED,
}


def output_form(output: output_pb2.OutputFormat, field: str) -> Form | None:
    """Form of the reply; None: free. Raises GrammarInvalid."""
    kind = output.WhichOneof("format")
    path = f"{field}.{kind}"
    match kind:
        case "json_object":
            return formats.json_object(path)
        case "json_schema":
            return formats.json_schema(output.json_schema, path)
        case "regex":
            return formats.regex(output.regex, path)
        case "choice":
            return formats.choice(output.choice.choices, path)
        case "lark":
            return formats.lark(output.lark, path)
        case None:
            return None
    raise GrammarInvalid("a form that is not known here", field=field)


def tools(options: tools_pb2.ToolOptions) -> Tools:
    """The tools. Raises GrammarInvalid for parameters that are no schema."""
    choice = options.choice
    return Tools(
        [_tool(tool, f"tools.tools[{index}]") for index, tool in enumerate(options.tools)],
        choice.name if choice.HasField("name") else _MODES[choice.mode],
        options.parallel if options.HasField("parallel") else True,
    )


def _tool(tool: tools_pb2.Tool, field: str) -> Tool:
    parameters = parsed_schema(tool.parameters, f"{field}.parameters") if tool.parameters else {}
    return Tool(tool.name, tool.description, parameters, tool.strict, field)
