"""Tools offered in the system message as Qwen2.5's chat template writes them, and the calls the model answers with."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.local.demo_model.drawing.scenes import COLORS, SHAPES
from deploy.local.demo_model.model import SYSTEM_MESSAGE
from deploy.local.demo_model.talk import phrases
from deploy.local.demo_model.talk.turns import Questions, Skill, Turn, article

CITIES = ("Paris", "Rome", "Oslo", "Berlin", "Madrid", "London", "Tokyo", "Lima", "Cairo", "Vienna", "Delhi", "Seoul")
ROOMS = ("kitchen", "bathroom", "bedroom", "office", "hall", "garden")
_INTRODUCTION = (
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_INSTRUCTION = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)


@dataclass(frozen=True)
class Tool:
    """A function that can be called with one argument."""

    names: tuple[str, ...]
    """It goes by one of these."""
    argument: str
    kind: str
    """Type of the argument in JSON schema."""
    wordings: tuple[str, ...]
    """Requests; the last is held out."""
    values: tuple[str | int, ...]

    def signature(self, name: str) -> dict[str, Any]:
        parameters = {
            "type": "object",
            "properties": {self.argument: {"type": self.kind}},
            "required": [self.argument],
        }
        return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = (
    Tool(("get_weather", "weather"), "city", "string", (
        "What is the weather in {value}?", "How is the weather in {value}?", "Is it raining in {value}?",
        "Tell me the weather in {value}.",
    ), CITIES),
    Tool(("set_timer", "start_timer"), "minutes", "integer", (
        "Set a timer for {value} minutes.", "Wake me in {value} minutes.", "Start a timer of {value} minutes.",
        "I need a timer for {value} minutes.",
    ), tuple(range(1, 61))),
    Tool(("turn_on_light", "light_on"), "room", "string", (
        "Turn on the light in the {value}.", "Light in the {value}, please.", "Make light in the {value}.",
        "Switch on the light in the {value}.",
    ), ROOMS),
    Tool(("get_time", "clock"), "city", "string", (
        "What time is it in {value}?", "How late is it in {value}?", "Tell me the time in {value}.",
        "Which time is it in {value}?",
    ), CITIES),
    Tool(("draw_shape", "draw"), "shape", "string", (
        "Draw {a_value}.", "Please draw {a_value}.", "Make me {a_value}.", "Can you draw {a_value}?",
    ), SHAPES),
    Tool(("set_colour", "paint"), "colour", "string", (
        "Make it {value}.", "Paint the wall {value}.", "Set the colour to {value}.", "Change the colour to {value}.",
    ), COLORS),
)  # fmt: skip


def system_message(signatures: Sequence[dict[str, Any]], system: str = SYSTEM_MESSAGE) -> str:
    """The system message with tools, as Qwen2.5's template renders it."""
    lines = "".join(f"\n{json.dumps(signature)}" for signature in signatures)
    return f"{system}{_INTRODUCTION}{lines}{_INSTRUCTION}"


def call(name: str, arguments: dict[str, Any]) -> str:
    """A reply that calls a tool."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


@dataclass(frozen=True)
class ToolQuestions(Questions):
    """Requests with one to three tools at hand."""

    def offer(self, other: Callable[[], Turn]) -> tuple[str, tuple[Turn, ...]]:
        """A system message that offers tools, and turns: most need one of them, some (`other`) need none."""
        count = int(self.rng.integers(1, 4))
        tools = [TOOLS[int(index)] for index in self.rng.choice(len(TOOLS), count, replace=False)]
        named = [(tool, self.pick(tool.names)) for tool in tools]
        turns = tuple(
            self._request(*named[int(self.rng.integers(count))]) if self.chance(0.8) else other()
            for _ in range(int(self.rng.integers(1, 4)))
        )
        return system_message([tool.signature(name) for tool, name in named]), turns

    def refused(self) -> Turn:
        """A request for a tool where none is offered."""
        tool = TOOLS[int(self.rng.integers(3))]
        turn = self._request(tool, tool.names[0])
        return Turn(Skill.TALK, turn.question, phrases.ONLY_KNOWS, turn.unseen)

    def _request(self, tool: Tool, name: str) -> Turn:
        value = tool.values[int(self.rng.integers(len(tool.values)))]
        answer = call(name, {tool.argument: value})
        return self.turn(Skill.TOOL, tool.wordings, answer, value=str(value), a_value=article(str(value)))
