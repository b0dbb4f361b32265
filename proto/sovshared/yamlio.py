"""YAML that people write, read within bounds, and written so that it reads back as it was.

Plain data only: maps with string keys, lists, strings, integers, decimals, booleans, null. Refused
by name and line: anchors and aliases (a few lines of them can unfold into gigabytes), tags,
duplicate keys, several documents, and anything too large, too deep or too long. Scalars follow
YAML 1.2, where `NO` is a string and not false: it is also the code of a country.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import yaml
from yaml import events

BYTES_MAX = 4 * 1024 * 1024
NODES_MAX = 200_000
DEPTH_MAX = 32
INTEGER_DIGITS_MAX = 30
INTEGER_ALLOWED = f"at most {INTEGER_DIGITS_MAX}; quote it if it is text"

Value: TypeAlias = "dict[str, Value] | list[Value] | str | int | float | bool | None"
Where: TypeAlias = tuple[str | int, ...]

# The C parser is ten times faster, and absent where PyYAML was built without libyaml.
_LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BREAKS = re.compile("[\x85\u2028\u2029]")
"""Breaks of a line in YAML 1.1, which read back as others unless they are escaped."""
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_OCTAL = re.compile(r"0o[0-7]+")
_DECIMAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")


class YamlInvalid(ValueError):
    """A file that is refused. The message names file, line, what was found and what is allowed."""


@dataclass(frozen=True, slots=True)
class Document:
    """A file's value, and on which line each part of it begins (1 is the first)."""

    name: str
    value: Value
    lines: dict[Where, int]

    def line_of(self, where: Where) -> int:
        """The line of the part at `where`, or of the nearest part around it."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 1)


def load(path: Path, *, bytes_max: int = BYTES_MAX) -> Document:
    """The document in the file at `path`."""
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)
    except OSError as error:
        raise YamlInvalid(f"{path}: {error.strerror}") from error
    return loads(content, str(path), bytes_max=bytes_max)


def loads(content: bytes | str, name: str, *, bytes_max: int = BYTES_MAX) -> Document:
    """The document in `content`; `name` stands in messages for the file's name."""
    raw = content.encode() if isinstance(content, str) else content
    if len(raw) > bytes_max:
        raise YamlInvalid(f"{name}: found more than {bytes_max} bytes, allowed {bytes_max}")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise YamlInvalid(f"{name}: byte {error.start} is not UTF-8") from error
    return _Builder(name, _events(text, name)).document()


def _events(text: str, name: str) -> Iterator[events.Event]:
    try:
        yield from yaml.parse(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise YamlInvalid(f"{name}:{line}: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        first, *_ = str(error).splitlines()
        raise YamlInvalid(f"{name}: {first}") from error
    except RecursionError as error:
        raise YamlInvalid(f"{name}: nested deeper than {DEPTH_MAX} levels") from error


class _Builder:
    """Makes the value out of parse events, so that nothing is built that was not counted."""

    def __init__(self, name: str, stream: Iterator[events.Event]) -> None:
        self._name = name
        self._stream = stream
        self._lines: dict[Where, int] = {}
        self._nodes = 0

    def document(self) -> Document:
        value: Value = None
        documents = 0
        for event in self._stream:
            if isinstance(event, events.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._invalid(event, "a second document", "one document a file")
            elif isinstance(event, events.NodeEvent):
                value = self._value(event, ())
        return Document(self._name, value, self._lines)

    def _value(self, event: events.Event, where: Where) -> Value:
        self._check(event, where)
        self._lines[where] = _line(event)
        if isinstance(event, events.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, events.SequenceStartEvent):
            return self._list(where)
        assert isinstance(event, events.MappingStartEvent)
        return self._map(where)

    def _check(self, event: events.Event, where: Where) -> None:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise self._invalid(event, f"more than {NODES_MAX} values", f"at most {NODES_MAX}")
        if len(where) >= DEPTH_MAX:
            raise self._invalid(event, f"more than {DEPTH_MAX} levels", f"at most {DEPTH_MAX}")
        if isinstance(event, events.AliasEvent):
            raise self._invalid(event, f"alias *{event.anchor}", "the value itself")
        anchor: str | None = getattr(event, "anchor", None)
        if anchor is not None:
            raise self._invalid(event, f"anchor &{anchor}", "the value without it")
        tag: str | None = getattr(event, "tag", None)
        if tag is not None:
            raise self._invalid(event, f"tag {tag}", "untagged values")

    def _list(self, where: Where) -> list[Value]:
        items: list[Value] = []
        for event in self._stream:
            if isinstance(event, events.SequenceEndEvent):
                break
            items.append(self._value(event, (*where, len(items))))
        return items

    def _map(self, where: Where) -> dict[str, Value]:
        result: dict[str, Value] = {}
        for event in self._stream:
            if isinstance(event, events.MappingEndEvent):
                break
            if isinstance(event, events.AliasEvent):
                self._check(event, where)
            if not isinstance(event, events.ScalarEvent):
                raise self._invalid(event, "a list or map as a key", "a string")
            self._check(event, where)
            key = event.value
            if key in result:
                raise self._invalid(event, f"key {key!r} a second time", "each key once")
            inner = (*where, key)
            result[key] = self._value(next(self._stream), inner)
            self._lines[inner] = _line(event)
        return result

    def _scalar(self, event: events.ScalarEvent) -> Value:
        text: str = event.value
        if event.style in ("'", '"', "|", ">"):
            return text
        if _is_integer(text) and len(text) > INTEGER_DIGITS_MAX:
            raise self._invalid(event, f"a number of {len(text)} digits", INTEGER_ALLOWED)
        return _plain(text)

    def _invalid(self, event: events.Event, found: str, allowed: str) -> YamlInvalid:
        return YamlInvalid(f"{self._name}:{_line(event)}: found {found}, allowed {allowed}")


def dumps(value: object) -> str:
    """`value` as text that `loads` reads back as it was: plain data, keys in their order.

    PyYAML follows YAML 1.1, in which `1e5` needs no quotes and `NO` does; this adds the quotes that
    1.2 needs and leaves the others.
    """
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Quotes text that would be read back as anything else, and says what is there twice twice."""

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    is_text = not _is_integer(text) and isinstance(_plain(text), str)
    style = '"' if _BREAKS.search(text) else None if is_text else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)  # pyright: ignore[reportUnknownMemberType]


_Dumper.add_representer(str, _quoted)


def _is_integer(text: str) -> bool:
    return any(form.fullmatch(text) for form in (_HEX, _OCTAL, _INTEGER))


def _plain(text: str) -> str | int | float | bool | None:
    """What text without quotes is."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _is_integer(text):
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text


def _line(event: events.Event) -> int:
    mark = event.start_mark
    return mark.line + 1 if mark is not None else 1
