"""Where in a JSON Schema a fault is. Pure: the caller says whether a schema can be compiled."""

from collections.abc import Callable, Iterator
from typing import Any

Json = dict[str, Any]
_SCHEMAS = ("items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_DEFINITIONS = ("$defs", "definitions")
_MAX_TRIALS = 200


def fault_place(schema: Json, compiles: Callable[[Json], bool]) -> str:
    """JSON pointer of the deepest part that cannot be compiled by itself, "" for the schema as a whole.

    Definitions are at hand in each trial, so that references in a part are found.
    """
    definitions = {name: schema[name] for name in _DEFINITIONS if isinstance(schema.get(name), dict)}
    place, trials = "", 0
    while True:
        for step, part in _parts(schema):
            trials += 1
            if trials > _MAX_TRIALS:
                return place
            if not compiles(definitions | part):
                place, schema = place + step, part
                break
        else:
            return place


def _parts(schema: Json) -> Iterator[tuple[str, Json]]:
    for name in _SCHEMAS:
        if isinstance(part := schema.get(name), dict):
            yield f"/{name}", part
    for name in _LISTS:
        if isinstance(parts := schema.get(name), list):
            yield from ((f"/{name}/{index}", part) for index, part in enumerate(parts) if isinstance(part, dict))
    for name in _MAPS:
        if isinstance(named := schema.get(name), dict):
            yield from ((f"/{name}/{_escaped(key)}", part) for key, part in named.items() if isinstance(part, dict))


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
