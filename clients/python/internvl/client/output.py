"""The form that a reply must have, for `Sampling.output`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from internvl.common.v1 import output_pb2


@dataclass(frozen=True)
class JsonObject:
    """A JSON object, whatever is in it."""

    def to_pb(self) -> output_pb2.OutputFormat:
        return output_pb2.OutputFormat(json_object=output_pb2.JsonObject())


@dataclass(frozen=True)
class JsonSchema:
    """JSON that a schema allows."""

    schema: Mapping[str, Any]

    def to_pb(self) -> output_pb2.OutputFormat:
        return output_pb2.OutputFormat(json_schema=json.dumps(self.schema))


@dataclass(frozen=True)
class Regex:
    """Text that a regular expression matches from beginning to end: Rust's syntax."""

    pattern: str

    def to_pb(self) -> output_pb2.OutputFormat:
        return output_pb2.OutputFormat(regex=self.pattern)


@dataclass(frozen=True)
class Choice:
    """One of some texts."""

    choices: tuple[str, ...]

    def to_pb(self) -> output_pb2.OutputFormat:
        return output_pb2.OutputFormat(choice=output_pb2.Choices(choices=self.choices))


@dataclass(frozen=True)
class Lark:
    """Texts that a Lark grammar allows, from its rule `start`."""

    grammar: str

    def to_pb(self) -> output_pb2.OutputFormat:
        return output_pb2.OutputFormat(lark=self.grammar)


Output = JsonObject | JsonSchema | Regex | Choice | Lark
