"""Random messages of any type, from a seed: extreme numbers, odd strings, unknown enum values, fields left out."""

import random
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

Any_ = TypeVar("Any_", bound=Message)
_INTEGERS = (0, 1, 2, -1, 7, 2**31 - 1, -(2**31))
_LONG_INTEGERS = (0, 1, 3, -1, 2**63 - 1, -(2**63))
_FLOATS = (0.0, 1.0, 0.25, -1.0, 1e30, float("inf"), float("-inf"), float("nan"))
_STRINGS = ("", "hello", "media_" + "0" * 48, "\0", "<|im_end|>", "é\u202e", "x" * 300)


def random_message(kind: type[Any_], dice: random.Random, depth: int = 4) -> Any_:
    """A message that its type allows; nested at most `depth` deep."""
    message = kind()
    for field in message.DESCRIPTOR.fields:
        if dice.random() < 0.35 or (field.message_type is not None and depth == 0):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _fill(getattr(message, field.name), field.message_type, dice)
        elif field.is_repeated:
            for _ in range(dice.randint(0, 3)):
                _add(getattr(message, field.name), field, dice, depth)
        elif field.message_type is not None:
            nested = getattr(message, field.name)
            nested.SetInParent()
            nested.CopyFrom(random_message(type(nested), dice, depth - 1))
        else:
            setattr(message, field.name, _value(field, dice))
    return message


def _fill(entries: Any, entry: Any, dice: random.Random) -> None:
    """A map of scalars."""
    key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
    for _ in range(dice.randint(0, 3)):
        entries[_value(key, dice)] = _value(value, dice)


def _add(values: Any, field: Any, dice: random.Random, depth: int) -> None:
    if field.message_type is None:
        values.append(_value(field, dice))
    else:
        nested = values.add()
        nested.CopyFrom(random_message(type(nested), dice, depth - 1))


def _value(field: Any, dice: random.Random) -> object:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            text = dice.choice(_STRINGS)
            return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return dice.choice(_FLOATS)
        case FieldDescriptor.CPPTYPE_INT64:
            return dice.choice(_LONG_INTEGERS)
        case FieldDescriptor.CPPTYPE_UINT64 | FieldDescriptor.CPPTYPE_UINT32:
            return abs(dice.choice(_INTEGERS))
        case FieldDescriptor.CPPTYPE_ENUM:
            return dice.choice((0, 1, 2, 3, 99))
        case FieldDescriptor.CPPTYPE_BOOL:
            return dice.random() < 0.5
        case _:
            return dice.choice(_INTEGERS)
