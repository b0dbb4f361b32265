"""Frozen dataclasses of the model as canonical JSON text, and back. Driven by their own types.

Canonical here, and for audit leaves: keys sorted, no white space, UTF-8, strings escaped only where
JSON demands it, integers only (a float raises), that is RFC 8785 for the values we use.
"""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Callable, Mapping
from enum import Enum, IntEnum, StrEnum
from functools import lru_cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
_TEXT_OF = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
_VALUE_OF = json.JSONDecoder().raw_decode
SAFE_INTEGER_MAX = (1 << 53) - 1
"""Beyond it, readers that keep numbers as doubles would see another number."""


def canonical(value: object) -> str:
    """`value` as canonical JSON; raises on what has no canonical form."""
    _check(value)
    return _TEXT_OF(value)


def known_canonical(value: object) -> str:
    """As `canonical`, of what was built here of strings and small integers: half the price."""
    return _TEXT_OF(value)


def encode(value: object) -> str:
    """A dataclass of the model as canonical JSON."""
    return _TEXT_OF(plain(value))


def decode(kind: type[T], text: str) -> T:
    """The value of `kind` that `encode` wrote. Fields added since have their defaults."""
    return cast(T, _reader(kind)(_VALUE_OF(text)[0]))


def plain(value: object) -> object:
    """`value` as dicts, lists, strings, integers, booleans and None."""
    if isinstance(value, IntEnum):
        return int(value)
    if isinstance(value, StrEnum):
        return str(value)
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, tuple | list):
        return [plain(item) for item in cast(tuple[object, ...], value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    raise TypeError(f"no JSON form for {type(value).__name__}")


def _check(value: object) -> None:
    """Refuses what canonical JSON cannot hold."""
    if isinstance(value, str):
        value.encode("utf-8")
        return
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, int):
        if abs(value) > SAFE_INTEGER_MAX:
            raise ValueError(f"integer {value} is beyond 2^53-1")
        return
    if isinstance(value, list | tuple):
        for item in cast(list[object], value):
            _check(item)
        return
    if isinstance(value, Mapping):
        for key, item in cast(Mapping[object, object], value).items():
            if not isinstance(key, str):
                raise TypeError(f"a key must be a string; found {type(key).__name__}")
            _check(item)
        return
    raise TypeError(f"no canonical JSON for {type(value).__name__}")


@lru_cache(maxsize=256)
def _reader(kind: Any) -> Callable[[Any], object]:
    """A function from parsed JSON to a value of `kind`."""
    supertype = getattr(kind, "__supertype__", None)
    if supertype is not None:
        return _reader(supertype)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        inner = [a for a in get_args(kind) if a is not type(None)]
        assert len(inner) == 1, f"only optional unions are stored, not {kind}"
        read = _reader(inner[0])
        if read is _as_it_is:
            return read
        return lambda data: None if data is None else read(data)
    if origin is tuple:
        return _tuple_reader(get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {member.value: member for member in kind}.__getitem__
    if dataclasses.is_dataclass(cast(object, kind)):
        return _dataclass_reader(kind)
    assert kind in (str, int, bool), f"no reader for {kind}"
    return _as_it_is


def _as_it_is(value: object) -> object:
    return value


def _tuple_reader(args: tuple[Any, ...]) -> Callable[[Any], object]:
    if len(args) == 2 and args[1] is Ellipsis:
        read = _reader(args[0])
        return tuple if read is _as_it_is else lambda data: tuple(map(read, data))
    readers = [_reader(a) for a in args]
    return lambda data: tuple(r(item) for r, item in zip(readers, data, strict=True))


def _dataclass_reader(kind: Any) -> Callable[[Any], object]:
    names = frozenset(field.name for field in dataclasses.fields(kind))
    structured: list[tuple[str, Callable[[Any], object]]] | None = None

    def read(data: dict[str, Any]) -> object:
        nonlocal structured
        if structured is None:  # At the first value: a tree's type is within itself.
            hints = get_type_hints(kind)
            readers = [(name, _reader(hints[name])) for name in sorted(names)]
            structured = [(name, reader) for name, reader in readers if reader is not _as_it_is]
        if not data.keys() <= names:  # What a later version wrote and this one does not know.
            data = {name: data[name] for name in data if name in names}
        for name, reader in structured:
            if name in data:
                data[name] = reader(data[name])
        return kind(**data)

    return read
