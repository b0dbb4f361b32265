"""What fields of a job file hold: words, numbers, lengths of time, each checked as it is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
)

from sovctl.spec_values import (
    BYTES_ALLOWED,
    CPUS_ALLOWED,
    DURATION_ALLOWED,
    parse_bytes,
    parse_cpus,
    parse_duration,
    refusal,
)

TASKS_PER_NODE_MAX = 1024
COMMAND_ARGUMENTS_MAX = 1000
LIST_MAX = 100
RETRIES_MAX = 100

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?", re.IGNORECASE)
_COUNTRY = re.compile(r"[A-Z]{2}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
DESTINATION = re.compile(r"(?:[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\]):[1-9][0-9]{0,4}")
SIGNAL = re.compile(r"[A-Z0-9]{1,16}")
PROJECT = re.compile(r"[a-z0-9._-]+(?:/[a-z0-9._-]+){0,3}")


def matching(pattern: re.Pattern[str], allowed: str) -> AfterValidator:
    """A check that text is of a pattern, refusing in people's words and not the pattern's."""

    def judge(value: str) -> str:
        if not pattern.fullmatch(value):
            raise refusal(value, allowed)
        return value

    return AfterValidator(judge)


def _command(value: object) -> tuple[str, ...]:
    """A list is run as it stands; a string by a shell."""
    allowed = "a list of words, or one shell command as text; not empty"
    words: tuple[str, ...] = ()
    if isinstance(value, str):
        words = ("/bin/sh", "-c", value) if value.strip() else ()
    elif isinstance(value, (list, tuple)):
        found = cast(Sequence[object], value)
        if not all(isinstance(word, str) for word in found):
            odd = next(word for word in found if not isinstance(word, str))
            raise refusal(odd, "words that are text (quote numbers)")
        words = tuple(cast(Sequence[str], found))
    else:
        raise refusal(value, allowed)
    if not words or not words[0]:
        raise refusal(cast(object, value), allowed)
    if len(words) > COMMAND_ARGUMENTS_MAX:
        raise refusal(words, f"at most {COMMAND_ARGUMENTS_MAX} words")
    return words


def _one_or_more(value: object) -> tuple[str, ...]:
    """A name, or a list of names."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, (list, tuple)):
        names = cast(Sequence[object], value)
        if len(names) <= LIST_MAX and all(isinstance(n, str) and n for n in names):
            return tuple(cast(Sequence[str], names))
    raise refusal(cast(object, value), f"a GPU model, or a list of at most {LIST_MAX} of them")


def _tasks(value: object) -> int | Literal["per_gpu"]:
    if value == "per_gpu":
        return "per_gpu"
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= TASKS_PER_NODE_MAX:
        return value
    raise refusal(value, f"a whole number from 1 to {TASKS_PER_NODE_MAX}, or per_gpu")


def _schema(**schema: Any) -> WithJsonSchema:
    return WithJsonSchema(schema)


Duration: TypeAlias = Annotated[
    timedelta | str,
    PlainValidator(parse_duration),
    _schema(type="string", description=DURATION_ALLOWED),
]
Bytes: TypeAlias = Annotated[
    int | str, PlainValidator(parse_bytes), _schema(type="string", description=BYTES_ALLOWED)
]
Cpus: TypeAlias = Annotated[
    int | str | Decimal,
    PlainValidator(parse_cpus),
    _schema(type=["number", "string"], description=CPUS_ALLOWED),
]
Command: TypeAlias = Annotated[
    str | Sequence[str],
    PlainValidator(_command),
    _schema(anyOf=[{"type": "string"}, {"type": "array", "items": {"type": "string"}}]),
]
GpuModels: TypeAlias = Annotated[
    str | Sequence[str],
    PlainValidator(_one_or_more),
    _schema(anyOf=[{"type": "string"}, {"type": "array", "items": {"type": "string"}}]),
]
Tasks: TypeAlias = Annotated[
    int | Literal["per_gpu"],
    PlainValidator(_tasks),
    _schema(anyOf=[{"type": "integer", "minimum": 1}, {"const": "per_gpu"}]),
]
Names: TypeAlias = Annotated[
    Sequence[Annotated[str, Field(min_length=1, max_length=256)]],
    Field(max_length=LIST_MAX),
    AfterValidator(tuple),
]
Country: TypeAlias = Annotated[
    str, matching(_COUNTRY, "two capital letters, an ISO 3166-1 country such as GB")
]
Countries: TypeAlias = Annotated[
    Sequence[Country], Field(max_length=LIST_MAX), AfterValidator(tuple)
]
Variable: TypeAlias = Annotated[
    str, matching(_VARIABLE, "letters, digits and _, not beginning with a digit")
]
Tier: TypeAlias = Literal["OFFICIAL", "SECRET", "TOP_SECRET"]
Assurance: TypeAlias = Literal["DECLARED", "AUDITED", "ATTESTED", "MEASURED"]
NodeFactName: TypeAlias = Literal["attestation", "location"]
Retry: TypeAlias = Annotated[int, Field(ge=0, le=RETRIES_MAX)]


class Written(BaseModel):
    """Anything people write: no unknown fields, no silent conversions, never changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_by_name=True)
