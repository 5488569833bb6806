"""JSON Schemas as people write them for extraction and for tools, drawn from a seed: objects in objects, lists, enums,
ranges, patterns, formats, references, alternatives. Each can be satisfied by a short text."""

import random
from typing import Any

Schema = dict[str, Any]
_NAMES = ("id", "name", "total", "items", "date", "größe", "x y", 'q"uote', "line\\break", "tags", "note", "city")
_PATTERNS = ("^[A-Z]{2}[0-9]{1,4}$", "^(red|green|blue)$", "^[a-z]+@[a-z]+\\.org$", "^\\d{3}-\\d{2}$")
_FORMATS = ("date", "time", "date-time", "uuid", "ipv4", "email")


def schema(seed: int) -> Schema:
    """The schema of a seed: always an object, as OpenAI's API wants it."""
    rng = random.Random(seed)
    definitions = {f"part{index}": _object(rng, 1, ()) for index in range(rng.randrange(3))}
    top = _object(rng, 3, tuple(definitions))
    return top | ({"$defs": definitions} if definitions else {})


def _object(rng: random.Random, depth: int, definitions: tuple[str, ...]) -> Schema:
    names = rng.sample(_NAMES, rng.randrange(1, 5))
    required = names if rng.random() < 0.6 else rng.sample(names, rng.randrange(len(names) + 1))
    properties = {name: _value(rng, depth - 1, definitions) for name in names}
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _value(rng: random.Random, depth: int, definitions: tuple[str, ...]) -> Schema:
    makers = [_string, _number, _choice]
    if depth > 0:
        makers += [_nested, _list, _alternatives]
    if definitions and rng.random() < 0.2:
        return {"$ref": f"#/$defs/{rng.choice(definitions)}"}
    return rng.choice(makers)(rng, depth, definitions)


def _string(rng: random.Random, depth: int, definitions: tuple[str, ...]) -> Schema:
    kinds: list[Schema] = [
        {"type": "string", "maxLength": rng.randrange(1, 12)},
        {"type": "string", "minLength": 2, "maxLength": 9},
        {"type": "string", "pattern": rng.choice(_PATTERNS), "maxLength": 20},
        {"type": "string", "format": rng.choice(_FORMATS)},
    ]
    return rng.choice(kinds)


def _number(rng: random.Random, depth: int, definitions: tuple[str, ...]) -> Schema:
    low = rng.randrange(-50, 50)
    kinds: list[Schema] = [
        {"type": "integer", "minimum": low, "maximum": low + rng.randrange(200)},
        {"type": "number", "minimum": low, "exclusiveMaximum": low + 7},
        {"type": "integer", "exclusiveMinimum": 0},
        {"type": "boolean"},
        {"type": "null"},
    ]
    return rng.choice(kinds)


def _choice(rng: random.Random, depth: int, definitions: tuple[str, ...]) -> Schema:
    return rng.choice([{"enum": ["a", "b\n", 3, None, "ü"]}, {"const": "fixed"}, {"enum": ["only"]}])


def _nested(rng: random.Random, depth: int, definitions: tuple[str, ...]) -> Schema:
    return _object(rng, depth, definitions)


def _list(rng: random.Random, depth: int, definitions: tuple[str, ...]) -> Schema:
    item = _value(rng, depth - 1, definitions)
    least = rng.randrange(3)
    return {"type": "array", "items": item, "minItems": least, "maxItems": least + rng.randrange(3)}


def _alternatives(rng: random.Random, depth: int, definitions: tuple[str, ...]) -> Schema:
    first, second = ({"type": "null"}, _value(rng, depth - 1, definitions))
    return {"anyOf": [first, second]}
