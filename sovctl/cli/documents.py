"""Answers as plain data for `-o json` and `-o yaml`. Field names are the contract's own.

Integers stay integers, enums are their words, an absent value is null. Nothing is left out because
it is empty: a program may rely on every key.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, cast

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from sovctl.errors import Denial, SovError
from sovctl.results import JobInfo

Document = dict[str, Any]


def job_document(job: JobInfo) -> Document:
    """A job; docs/cli.md describes the keys."""
    return asdict(job)


def denial_document(denial: Denial) -> Document:
    """One reason against something."""
    return asdict(denial)


def error_document(error: SovError) -> Document:
    """What went wrong."""
    details = [denial_document(denial) for denial in error.details]
    return {"error": {"reason": error.reason, "message": error.message, "details": details}}


def message_document(message: Message) -> Document:
    """Any message of the wire contract."""
    return {
        field.name: _field(message, field)
        for field in cast(Sequence[FieldDescriptor], message.DESCRIPTOR.fields)
    }


def _field(message: Message, field: FieldDescriptor) -> Any:
    value = getattr(message, field.name)
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        return {str(key): value[key] for key in sorted(value)}
    if field.is_repeated:
        return [_value(each, field) for each in cast(Iterable[Any], value)]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _value(value, field)


def _value(value: Any, field: FieldDescriptor) -> Any:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return message_document(value)
    if field.type == FieldDescriptor.TYPE_ENUM:
        assert field.enum_type is not None
        return _enum(field.enum_type, value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64encode(value).decode()
    return value


def _enum(enum: EnumDescriptor, number: int) -> str | int | None:
    """The word without its enum's name; null for "unspecified", the number where it is new."""
    found = enum.values_by_number.get(number)
    if found is None:
        return number
    zero = enum.values_by_number[0].name
    return None if number == 0 else found.name.removeprefix(zero.removesuffix("UNSPECIFIED"))
