"""From pydantic's errors to faults people can act on: field, line, found, allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sovctl.errors import Denial, SpecError
from sovctl.spec_values import shown

FAULTS_MAX = 50
"""Faults told at once; a file of junk has more than anyone reads."""

Lines = Mapping[tuple[str | int, ...], int]
"""Line of each field of a file, by the field's path."""

ModelT = TypeVar("ModelT", bound=BaseModel)

_PLAIN: Mapping[str, str] = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text (quote it)",
    "sequence_str": "a list",
    "list_type": "a list",
    "tuple_type": "a list",
    "is_instance_of": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with what somebody wrote."""

    field: str
    found: str
    allowed: str
    line: int | None = None

    def __str__(self) -> str:
        where = f"{self.field} (line {self.line})" if self.line else self.field
        return f"{where}: found {self.found}, allowed {self.allowed}"


def _path(loc: Sequence[str | int]) -> str:
    named = (part for part in loc if part != "[key]")  # Pydantic's word for a mapping's key.
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in named)
    return text.removeprefix(".") or "file"


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in cast(tuple[object, ...], get_args(annotation)):
        yield from _models_in(part)


def _fields_at(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """Names of the fields where `loc` ends; empty where there is no model."""
    for part in loc:
        if isinstance(part, str) and part in _names(model):
            inner = next(_models_in(_names(model)[part]), None)
            if inner is None:
                return []
            model = inner
    return list(_names(model))


def _names(model: type[BaseModel]) -> dict[str, object]:
    return {
        field.validation_alias if isinstance(field.validation_alias, str) else name: (
            field.annotation
        )
        for name, field in model.model_fields.items()
    }


def _unknown_field(model: type[BaseModel], loc: Sequence[str | int]) -> str:
    known = _fields_at(model, loc[:-1])
    near = difflib.get_close_matches(str(loc[-1]), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"one of {', '.join(known)}{hint}" if known else "nothing of that name"


def _fault(model: type[BaseModel], error: ErrorDetails, lines: Lines) -> Fault:
    loc, kind = tuple(error["loc"]), error["type"]
    context = error.get("ctx", {})
    found = shown(error["input"])
    match kind:
        case "extra_forbidden":
            found, allowed = "an unknown field", _unknown_field(model, loc)
        case "missing":
            found, allowed = "nothing", "a value: the field is required"
        case "not_allowed":
            found, allowed = str(context["found"]), str(context["allowed"])
        case "literal_error":
            allowed = str(context["expected"]).replace("'", "")
        case "greater_than_equal" | "less_than_equal":
            bound = context.get("ge", context.get("le"))
            allowed = f"at {'least' if kind.startswith('g') else 'most'} {bound}"
        case "too_short" | "string_too_short":
            allowed = f"at least {context['min_length']}"
        case "too_long" | "string_too_long":
            allowed = f"at most {context['max_length']}"
        case _:
            allowed = _PLAIN.get(kind, error["msg"])
    return Fault(_path(loc), found, allowed, _line(loc, lines))


def _line(loc: tuple[str | int, ...], lines: Lines) -> int | None:
    """The line of the field, or of the nearest thing around it."""
    for end in range(len(loc), 0, -1):
        if (line := lines.get(loc[:end])) is not None:
            return line
    return None


def spec_error(source: str, faults: Sequence[Fault]) -> SpecError:
    """One error that tells every fault."""
    told = list(faults[:FAULTS_MAX])
    rest = len(faults) - len(told)
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    more = f" ({rest} more are not listed)" if rest else ""
    details = tuple(
        Denial(
            "INVALID_ARGUMENT",
            f"{f'line {f.line}: ' if f.line else ''}found {f.found}, allowed {f.allowed}",
            f.field,
        )
        for f in told
    )
    return SpecError(f"{source}: {count}{more}", details=details)


def check(model: type[ModelT], content: object, source: str, lines: Lines | None = None) -> ModelT:
    """`content` as a `model`, or SpecError with every fault at once."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        # An unknown union member shows once for each member it is not; one of them is enough.
        faults = [_fault(model, e, lines or {}) for e in error.errors(include_url=False)]
        by_line = sorted(dict.fromkeys(faults), key=lambda fault: (fault.line or 0, fault.field))
        raise spec_error(source, by_line) from None
