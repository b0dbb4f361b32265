"""Fills every field of a protobuf message with a value that is not its default."""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

M = TypeVar("M", bound=Message)

_NUMBERS = frozenset(
    {
        FieldDescriptor.TYPE_INT32,
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_UINT32,
        FieldDescriptor.TYPE_UINT64,
    }
)


def fill(message: M, texts: dict[str, str]) -> M:
    """Sets every field, repeated ones twice. `texts` gives strings that must mean something."""
    for number, field in enumerate(message.DESCRIPTOR.fields, start=2):
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = _value(field.message_type.fields_by_name["value"], number, {})
            getattr(message, field.name).update({f"k{number}": value})
        elif field.message_type is message.DESCRIPTOR:
            continue  # A tree: what its parts are is what it is itself.
        elif field.is_repeated:
            for n in range(2):
                _add(message, field, number + n, texts)
        elif field.message_type is not None:
            fill(getattr(message, field.name), texts)
        else:
            setattr(message, field.name, _value(field, number, texts))
    return message


def _add(message: Message, field: Any, number: int, texts: dict[str, str]) -> None:
    target = getattr(message, field.name)
    if field.message_type is not None:
        fill(target.add(), texts)
    else:
        target.append(_value(field, number, texts))


def _value(field: Any, number: int, texts: dict[str, str]) -> object:
    if field.type == FieldDescriptor.TYPE_STRING:
        return texts.get(field.name, f"{field.name}-{number}")
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes([number])
    if field.type == FieldDescriptor.TYPE_BOOL:
        return True
    if field.enum_type is not None:
        return 1 + number % (len(field.enum_type.values) - 1)
    assert field.type in _NUMBERS, f"{field.full_name} is of a type that no message had before"
    return number
