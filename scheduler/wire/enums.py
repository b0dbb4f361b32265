"""Numbers of the wire's enums as the domain's, unknown ones as UNSPECIFIED."""

from __future__ import annotations

from enum import IntEnum
from typing import TypeVar, cast

E = TypeVar("E", bound=IntEnum)
W = TypeVar("W", bound=int)


def known(kind: type[E], number: int) -> E:
    """The member with this number; a newer peer's unknown number is UNSPECIFIED, which denies."""
    try:
        return kind(number)
    except ValueError:
        return kind(0)


def number(wire: type[W], member: IntEnum) -> W:
    """`member` as a value of the wire's enum, which gives the same things the same numbers."""
    del wire  # At run time protobuf takes any integer; the type is for the reader and the checker.
    return cast("W", int(member))
